//! What a registrar and its registrations share: the way to the worker, and leaving with the last
//! of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::leave_group::{LeaveGroup, Outcome};
use super::registrar::Command;
use super::size_check::SizeCheck;
use crate::client::{BeforeClose, Client};
use crate::discovery::instance::Instance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::worker::Worker;

/// How long leaving may take when there is no answer.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Held by a registrar and by each of its registrations. The last one that is dropped waits until
/// all of them have left, at most [`LEAVE_WITHIN`]; those before only say that they leave.
#[derive(Debug)]
pub(super) struct RegistrarLink {
    // Dropped first: the worker's part ends with it.
    commands: Sender<Command>,
    /// Keeps the worker running.
    _worker: Arc<Worker>,
    client: Client,
    sizes: SizeCheck,
}

impl RegistrarLink {
    pub(super) fn new(
        commands: Sender<Command>,
        worker: Arc<Worker>,
        client: Client,
        sizes: SizeCheck,
    ) -> Arc<Self> {
        let link = Arc::new(RegistrarLink {
            commands,
            _worker: worker,
            client,
            sizes,
        });
        let before_close: Arc<dyn BeforeClose> = Arc::<RegistrarLink>::clone(&link);
        link.client.before_close(&before_close);
        link
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the client can send an instance.
    pub(super) fn check_size(&self, instance: &Instance) -> Result<()> {
        self.sizes.check(instance)
    }

    pub(super) fn tell(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| Error::closed())
    }

    /// Begins to leave with everything. A worker that is gone drops the ticket, which says so.
    fn begin_leave_all(&self) -> LeaveGroup {
        let (group, ticket) = LeaveGroup::new();
        let _ = self.commands.send(Command::LeaveAll(ticket));
        group
    }

    /// Takes all instances out of etcd, in as few requests as they fit in, and waits for that.
    pub(super) fn leave_all(&self, timeout: Duration) -> Result<()> {
        let begun = Instant::now();
        let outcome = self.begin_leave_all().wait(begun + timeout);
        let error = match outcome {
            Outcome::Left => return Ok(()),
            Outcome::Failed(count, first) if count > 1 => {
                let last = format!("{count} registrations did not leave; the first: {first}");
                Error::new(first.kind(), last).caused_by(first)
            }
            Outcome::Failed(_, first) => first,
            Outcome::Open(count) => {
                let reason = format!("{count} registrations have not left in {timeout:?}");
                Error::new(ErrorKind::Timeout, reason)
            }
        };
        let about = Operation::new("leave all");
        Err(error.or_operation(&about).tried(0, begun.elapsed()))
    }
}

impl BeforeClose for RegistrarLink {
    fn begin(&self) -> Box<dyn FnOnce(Instant)> {
        let group = self.begin_leave_all();
        Box::new(move |deadline| drop(group.wait(deadline)))
    }
}

impl Drop for RegistrarLink {
    fn drop(&mut self) {
        // With a closed client, and in a forked child, nothing can leave any more.
        if !self.client.is_closed() {
            // A drop has nobody to tell; `leave_all` is the same with an answer.
            let _ = self.begin_leave_all().wait(Instant::now() + LEAVE_WITHIN);
        }
    }
}

//! The connection of a registrar and its registrations to their worker.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::command::Command;
use super::leave_group::{LeaveGroup, LeaveOutcome};
use super::size_check::SizeCheck;
use crate::client::{BeforeClose, Client};
use crate::discovery::codec::Format;
use crate::discovery::instance::Instance;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::worker::PartHandle;

/// The longest time for which a drop or a leave waits for etcd.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Sends commands to the worker. It is shared by a registrar and its registrations; the last of them
/// that is dropped waits until all have left, at most [`LEAVE_WITHIN`].
#[derive(Debug)]
pub(super) struct RegistrarLink {
    commands: Sender<Command>,
    part: PartHandle,
    client: Client,
    sizes: SizeCheck,
}

/// Sends commands to the worker, and keeps nothing registered.
#[derive(Debug)]
pub(super) struct CommandSender {
    commands: Sender<Command>,
    waker: Waker,
}

impl CommandSender {
    /// Sends a command. A registrar that has ended drops it.
    pub(super) fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.waker.wake_by_ref();
        }
    }
}

impl RegistrarLink {
    pub(super) fn new(
        commands: Sender<Command>,
        part: PartHandle,
        client: Client,
        sizes: SizeCheck,
    ) -> Arc<Self> {
        let link = Arc::new(RegistrarLink {
            commands,
            part,
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

    pub(super) fn first_format(&self) -> &Format {
        self.sizes.first_format()
    }

    /// Checks that the client can send an instance.
    pub(super) fn check_size(&self, instance: &Instance) -> Result<()> {
        self.sizes.check(instance)
    }

    pub(super) fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| Error::closed())?;
        self.part.wake();
        Ok(())
    }

    /// Returns a sender for the worker itself, which must not drop the last link: that would wait for
    /// the worker.
    pub(super) fn sender(&self) -> CommandSender {
        CommandSender {
            commands: self.commands.clone(),
            waker: self.part.waker(),
        }
    }

    /// Begins to take all instances out of etcd. A worker that has ended drops the reply, which counts
    /// as closed.
    fn begin_leave_all(&self) -> LeaveGroup {
        let (group, reply) = LeaveGroup::new();
        let _ = self.send(Command::LeaveAll(reply));
        group
    }

    /// Takes all instances out of etcd, in as few requests as possible, and waits for that.
    pub(super) fn leave_all(&self, timeout: Duration) -> Result<()> {
        let begun = Instant::now();
        let outcome = self.begin_leave_all().wait(begun + timeout);
        let error = match outcome {
            LeaveOutcome::Left => return Ok(()),
            LeaveOutcome::Failed(count, first) if count > 1 => {
                let last = format!("{count} registrations failed to leave; the first: {first}");
                Error::new(first.kind(), last).caused_by(first)
            }
            LeaveOutcome::Failed(_, first) => first,
            LeaveOutcome::Open(count) => {
                let reason = format!("{count} registrations did not leave in {timeout:?}");
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
        // Nothing can be sent with a closed client or in a forked child.
        if !self.client.is_closed() {
            // A drop cannot report the outcome; `leave_all` does.
            let _ = self.begin_leave_all().wait(Instant::now() + LEAVE_WITHIN);
        }
    }
}

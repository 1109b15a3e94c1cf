//! The handle of one registered instance.

mod checked;
mod shared;
mod state;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::command::Command;
use super::leave_group::{LeaveGroup, LeaveOutcome};
use super::registrar_link::{LEAVE_WITHIN, RegistrarLink};
use crate::client::Client;
use crate::discovery::check::check_task::RunningChecks;
use crate::discovery::codec::Format;
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;
use crate::error::{Error, Operation, Result};
use crate::types::{LeaseId, Revision};

pub(super) use shared::Shared;
pub use state::{Loss, State};

/// Handle of a registered instance, which stays registered until it [leaves](Registration::leave) or
/// the last clone of the handle is dropped.
///
/// When the instance is lost (its lease expires or is revoked, its key is deleted or overwritten, the
/// store loses its data, the network is down for an hour), the registrar puts it back, without a
/// limit in time. The current [`State`] shows whether it is registered. Clones are cheap, and are
/// handles of the same registration.
///
/// # Dropping
///
/// Dropping the last clone removes the instance from etcd: its key is deleted, unless it belongs to a
/// successor. The drop does not wait for etcd, so that many registrations that are dropped together
/// leave in one request. Only the drop of the last handle of their [`Registrar`] waits, at most 1 s:
/// the registrar itself or the last of its registrations. To be sure that a key is gone while the
/// registrar lives, call [`leave`](Registration::leave) or [`Registrar::leave_all`]. If a process ends
/// without dropping them, etcd deletes the keys when the lease expires.
///
/// [`Registrar`]: crate::Registrar
/// [`Registrar::leave_all`]: crate::Registrar::leave_all
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, Instance, Registrar};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let registrar = Registrar::builder(&client).start()?;
/// let registration = registrar.register(Instance::new("api", "10.0.0.5:8080"))?;
///
/// let reporter = registration.clone();
/// std::thread::spawn(move || reporter.modify(|instance| instance.set_meta("load", "0.7")));
///
/// // On SIGTERM: clients stop calling it, running calls have 5 s, then it leaves.
/// registration.drain(Duration::from_secs(5))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "dropping the last clone removes the instance from etcd"]
pub struct Registration {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    /// Declared first, so that the checks end first.
    checks: OnceLock<RunningChecks>,
    number: u64,
    shared: Arc<Shared>,
    link: Arc<RegistrarLink>,
}

impl Registration {
    pub(super) fn new(number: u64, shared: Arc<Shared>, link: Arc<RegistrarLink>) -> Self {
        Registration {
            handle: Arc::new(Handle {
                checks: OnceLock::new(),
                number,
                shared,
                link,
            }),
        }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    pub(in crate::discovery) fn client(&self) -> &Client {
        self.handle.link.client()
    }

    pub(in crate::discovery) fn first_format(&self) -> &Format {
        self.handle.link.first_format()
    }

    /// Returns the instance as it was last updated.
    ///
    /// etcd may not have the update yet; see [`wait_updated`](Registration::wait_updated).
    pub fn instance(&self) -> Arc<Instance> {
        self.shared().instance()
    }

    /// Returns the current state. It does not block.
    pub fn state(&self) -> State {
        self.shared().state()
    }

    /// Returns the channel of state changes, which ends after [`State::Closed`].
    ///
    /// The channel keeps the newest 64 changes for a slow reader. Clones share it: each item goes to
    /// one reader.
    pub fn states(&self) -> &Receiver<State> {
        self.shared().states()
    }

    /// Returns the revision that last put the instance into etcd, or [withdrew](State::Withdrawn) it.
    ///
    /// A reader whose data is of this revision or a later one sees the instance.
    pub fn revision(&self) -> Option<Revision> {
        self.shared().revision()
    }

    /// Returns why the instance is not registered, why its last update failed, or why it was closed.
    ///
    /// Returns `None` if there is no error. It does not block.
    pub fn last_error(&self) -> Option<Error> {
        self.shared().last_error()
    }

    /// Blocks until the instance is registered, and returns the revision that put it into etcd.
    ///
    /// Blocks for `timeout` at most, counted from the grant of the lease when the lease is granted
    /// during the wait. The registrar continues to try after an error.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) when another process holds the key and
    /// [`OnConflict::Fail`](crate::OnConflict::Fail) is set, or when the registrar has the same
    /// instance twice; [`Closed`](crate::ErrorKind::Closed) when the registration has ended. After
    /// `timeout`, the kind of the last error, such as [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied), or
    /// [`Timeout`](crate::ErrorKind::Timeout) if there was none.
    pub fn wait_registered(&self, timeout: Duration) -> Result<Revision> {
        self.shared().wait_registered(timeout, false)
    }

    /// The lease of the other process whose expiry it waits for.
    pub(super) fn held_by(&self) -> Option<LeaseId> {
        self.shared().held_by()
    }

    /// Waits as [`wait_registered`](Registration::wait_registered), but fails at once on an error that
    /// will repeat.
    pub(super) fn wait_or_fail(&self, timeout: Duration) -> Result<Revision> {
        self.shared().wait_registered(timeout, true)
    }

    /// Blocks until etcd has the last update made before this call, and returns its revision.
    ///
    /// Blocks for `timeout` at most. The registrar continues to try after an error.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use etcd_blocking::Registration;
    /// # fn example(registration: &Registration) -> etcd_blocking::Result<()> {
    /// registration.modify(|instance| instance.set_meta("load", "0.7"))?;
    /// let revision = registration.wait_updated(Duration::from_secs(5))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// At once, the reason why etcd refuses the update, such as
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) or
    /// [`TooLarge`](crate::ErrorKind::TooLarge), and [`Closed`](crate::ErrorKind::Closed) when the
    /// registration has ended. After `timeout`, as
    /// [`wait_registered`](Registration::wait_registered).
    pub fn wait_updated(&self, timeout: Duration) -> Result<Revision> {
        self.shared().wait_updated(timeout)
    }

    /// Changes the metadata, weight or status of the instance, and returns at once.
    ///
    /// `change` receives the current instance, and must keep its service, id and address. The change
    /// is atomic: if another thread changes the instance at the same time, `change` is called again
    /// with the new instance. No lock is held during the call. The registrar writes the newest
    /// instance; [`wait_updated`](Registration::wait_updated) waits for that.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid instance, or one with
    /// another service, id or address; [`TooLarge`](crate::ErrorKind::TooLarge) for one that exceeds
    /// the client's send limit; [`Closed`](crate::ErrorKind::Closed) when the registration has ended.
    /// After an error nothing is changed. When etcd refuses the new value, the old one stays in etcd,
    /// and [`last_error`](Registration::last_error) returns the reason.
    pub fn modify(&self, mut change: impl FnMut(&mut Instance)) -> Result<()> {
        loop {
            let before = self.instance();
            let mut after = Instance::clone(&before);
            change(&mut after);
            after.incarnation = before.incarnation;
            let about = || Operation::about("update", &before.id);
            check_change(&before, &after)
                .and_then(|()| self.handle.link.check_size(&after))
                .map_err(|error| error.operation(about()))?;
            let replaced = self.shared().replace(&before, after);
            if replaced.map_err(|error| error.operation(about()))? {
                let update = Command::Update(self.handle.number);
                let sent = self.handle.link.send(update);
                return sent.map_err(|error| error.operation(about()));
            }
        }
    }

    /// Replaces the properties of the instance, and returns at once.
    ///
    /// The service, the id and the address must stay the same. A status of
    /// [`Draining`](Status::Draining) also stays, whatever the status in `instance`, so that a thread
    /// that reports metadata does not cancel a drain; [`set_status`](Registration::set_status) can.
    /// Otherwise it works as [`modify`](Registration::modify), which changes some properties and keeps
    /// the others.
    ///
    /// # Errors
    ///
    /// As [`modify`](Registration::modify).
    pub fn update(&self, instance: Instance) -> Result<()> {
        self.modify(|now| {
            let status = match now.status {
                Status::Draining => Status::Draining,
                _ => instance.status,
            };
            let since = instance.since.or(now.since);
            *now = Instance {
                status,
                since,
                ..instance.clone()
            };
        })
    }

    /// Changes the status of the instance, keeps its other properties, and returns at once.
    ///
    /// # Errors
    ///
    /// As [`modify`](Registration::modify).
    pub fn set_status(&self, status: Status) -> Result<()> {
        self.modify(|instance| instance.status = status)
    }

    /// Leaves without failing calls: publishes [`Status::Draining`], waits for `grace`, and leaves.
    ///
    /// Clients stop picking a draining instance, and calls that are running can end in `grace`. Blocks
    /// for `grace`, and additionally at most the client's timeout for the status and 1 s for the leave.
    /// If the status cannot be published, it leaves at once, because clients would not stop calling.
    /// The wait ends early when the registration ends.
    ///
    /// # Errors
    ///
    /// As [`wait_updated`](Registration::wait_updated) for the first step, otherwise as
    /// [`leave`](Registration::leave).
    pub fn drain(&self, grace: Duration) -> Result<()> {
        let published = self
            .set_status(Status::Draining)
            .and_then(|()| self.wait_updated(self.handle.link.client().timeout()));
        if published.is_ok() {
            self.shared().wait_ended(grace);
        }
        let left = self.leave();
        published.and(left)
    }

    /// Takes the instance out of etcd, and blocks until that is done, at most 1 s.
    ///
    /// All clones of this handle are ended by it. If the instance has already left, it returns `Ok` at
    /// once.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) when there was no answer in 1 s, or
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when etcd was unreachable; the worker continues to
    /// try while the registrar or one of its registrations exists. [`Closed`](crate::ErrorKind::Closed)
    /// when the client was closed before the key was deleted, and
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) when it may not be deleted; then etcd
    /// deletes it when the lease expires.
    pub fn leave(&self) -> Result<()> {
        let begun = Instant::now();
        let left = self.handle.begin_leave().wait(begun + LEAVE_WITHIN);
        // Another clone, or the client, may have ended it.
        let outcome = match (self.shared().ended(), left) {
            (Some(ended), _) => ended,
            (None, LeaveOutcome::Left) => Ok(()),
            (None, LeaveOutcome::Failed(_, error)) => Err(error),
            (None, LeaveOutcome::Open(_)) => Err(self.shared().leave_unanswered(begun)),
        };
        outcome.map_err(|error| {
            let about = Operation::about("leave", &self.instance().id);
            error.operation(about).tried(0, begun.elapsed())
        })
    }
}

impl Handle {
    /// Begins to leave. A worker that has ended drops the reply, which counts as closed.
    fn begin_leave(&self) -> LeaveGroup {
        let (group, reply) = LeaveGroup::new();
        let _ = self.link.send(Command::Leave(self.number, reply));
        group
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.ended().is_none() {
            // The drop of the link waits, for all registrations together.
            let _ = self.begin_leave();
        }
    }
}

/// Checks that a change is valid and keeps the identity of the instance.
fn check_change(before: &Instance, after: &Instance) -> Result<()> {
    after.check()?;
    if (&before.service, &before.id, &before.addr) == (&after.service, &after.id, &after.addr) {
        return Ok(());
    }
    let reason = "the service, the id and the address of a registration cannot change: register \
                  another instance";
    Err(Error::invalid(reason))
}

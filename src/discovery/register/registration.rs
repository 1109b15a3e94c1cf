//! What the owner of one registered instance holds.

mod shared;
mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::leave_group::{LeaveGroup, Outcome};
use super::registrar::Command;
use super::registrar_link::{LEAVE_WITHIN, RegistrarLink};
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;
use crate::error::{Error, Operation, Result};
use crate::types::{LeaseId, Revision};

pub(super) use shared::Shared;
pub use state::{Loss, State};

/// An instance that is registered until it [leaves](Registration::leave), or until the last clone of
/// this is dropped.
///
/// Whatever happens to it (its lease expires or is revoked, its key is deleted or overwritten, the
/// store loses its data, the network goes away for an hour), it is put back, for ever. How it is,
/// is a [`State`]. Clones are cheap and are handles of the same registration.
///
/// # Dropping
///
/// Dropping the last clone takes the instance out of etcd: its key is deleted, unless it is a
/// successor's. The drop does not wait for etcd, so that many that are dropped together leave
/// together. What waits, at most a second, is the drop of the last handle of their [`Registrar`]:
/// the registrar itself or the last of its registrations, whichever goes last. To be sure that a key
/// is gone while the registrar lives on, call [`leave`](Registration::leave) or
/// [`Registrar::leave_all`]. A process that ends without dropping them leaves nothing: then etcd
/// forgets the keys when the lease ends.
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
/// // On SIGTERM: nobody new calls, calls under way have 5 s, then it is gone.
/// registration.drain(Duration::from_secs(5))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "dropping the last clone takes the instance out of etcd"]
pub struct Registration {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    number: u64,
    shared: Arc<Shared>,
    link: Arc<RegistrarLink>,
}

impl Registration {
    pub(super) fn new(number: u64, shared: Arc<Shared>, link: Arc<RegistrarLink>) -> Self {
        Registration {
            handle: Arc::new(Handle {
                number,
                shared,
                link,
            }),
        }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// The instance, as it was last updated. Whether etcd has that already, tells
    /// [`wait_updated`](Registration::wait_updated).
    pub fn instance(&self) -> Arc<Instance> {
        self.shared().instance()
    }

    /// How it is now.
    pub fn state(&self) -> State {
        self.shared().state()
    }

    /// Every change of its state, the newest 64 for a reader that is slow. It ends after `Closed`.
    /// Clones share the channel: each item goes to one reader.
    pub fn states(&self) -> &Receiver<State> {
        self.shared().states()
    }

    /// The revision that last put it into etcd: whoever has seen that revision has seen it.
    pub fn revision(&self) -> Option<Revision> {
        self.shared().revision()
    }

    /// What is in the way of the registration or of its last update, or why it was closed; `None`
    /// while all is well. It does not block.
    pub fn last_error(&self) -> Option<Error> {
        self.shared().last_error()
    }

    /// Blocks until it is registered.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) when somebody else has it and that is final;
    /// [`Closed`](crate::ErrorKind::Closed). After `timeout`, and the round trip that a lease takes
    /// which is granted meanwhile, with the last trouble on the way: the
    /// kind of the last trouble on the way, such as [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied), or
    /// [`Timeout`](crate::ErrorKind::Timeout) when there was none.
    pub fn wait_registered(&self, timeout: Duration) -> Result<Revision> {
        self.shared().wait_registered(timeout, false)
    }

    /// The lease of another process that it waits for.
    pub(super) fn held_by(&self) -> Option<LeaseId> {
        self.shared().held_by()
    }

    /// The same for one who gives up when it will not come about within `timeout`.
    pub(super) fn wait_now(&self, timeout: Duration) -> Result<Revision> {
        self.shared().wait_registered(timeout, true)
    }

    /// Blocks until etcd has what this registration was last updated to (when this is called), and
    /// returns the revision that put it there.
    ///
    /// # Errors
    ///
    /// At once, why etcd refuses the update, such as
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) or
    /// [`TooLarge`](crate::ErrorKind::TooLarge), and [`Closed`](crate::ErrorKind::Closed) when it has
    /// left. After `timeout`, as [`wait_registered`](Registration::wait_registered). It is still
    /// tried after an error.
    pub fn wait_updated(&self, timeout: Duration) -> Result<Revision> {
        self.shared().wait_updated(timeout)
    }

    /// Changes properties of the instance; its service, id and address stay. What is restored later
    /// is the newest.
    ///
    /// The change is made to the instance as it is, all of it or nothing, also when several threads
    /// change it at a time: `change` is then called again with what another thread made of it. No
    /// lock is held meanwhile. Returns at once; see [`wait_updated`](Registration::wait_updated).
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an instance that cannot be
    /// registered, or that is another one; [`TooLarge`](crate::ErrorKind::TooLarge) for one that the
    /// client does not send; [`Closed`](crate::ErrorKind::Closed) when it has left. Then nothing is
    /// changed. The old value also stays when etcd refuses the new one:
    /// [`last_error`](Registration::last_error) says why.
    pub fn modify(&self, mut change: impl FnMut(&mut Instance)) -> Result<()> {
        loop {
            let before = self.instance();
            let mut after = Instance::clone(&before);
            change(&mut after);
            let about = || Operation::about("update", &before.id);
            check_change(&before, &after)
                .and_then(|()| self.handle.link.check_size(&after))
                .map_err(|error| error.operation(about()))?;
            let replaced = self.shared().replace(&before, after);
            if replaced.map_err(|error| error.operation(about()))? {
                let update = Command::Update(self.handle.number);
                let told = self.handle.link.tell(update);
                return told.map_err(|error| error.operation(about()));
            }
        }
    }

    /// Registers the instance with other properties; its service, id and address stay.
    ///
    /// One that is [`Draining`](Status::Draining) stays so, whatever the status in `instance`: to
    /// report properties never calls back what another thread sends away.
    /// [`set_status`](Registration::set_status) does. Otherwise as
    /// [`modify`](Registration::modify), which changes some properties and keeps the others.
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

    /// Registers the instance with another status, and keeps its other properties.
    ///
    /// # Errors
    ///
    /// As [`modify`](Registration::modify).
    pub fn set_status(&self, status: Status) -> Result<()> {
        self.modify(|instance| instance.status = status)
    }

    /// Leaves without failing calls: says [`Status::Draining`], so that those who look stop calling
    /// it; waits for `grace`, so that calls under way can end; and leaves.
    ///
    /// Blocks for `grace`, and for what etcd takes to answer: to the first step at most the client's
    /// timeout, to the last at most a second. When etcd cannot be told of the drain, it leaves at
    /// once, for nobody stops calling it by waiting. It ends early when the registration ends.
    ///
    /// # Errors
    ///
    /// As [`wait_updated`](Registration::wait_updated) for the first step, otherwise as
    /// [`leave`](Registration::leave).
    pub fn drain(&self, grace: Duration) -> Result<()> {
        let told = self
            .set_status(Status::Draining)
            .and_then(|()| self.wait_updated(self.handle.link.client().timeout()));
        if told.is_ok() {
            self.shared().wait_ended(grace);
        }
        let left = self.leave();
        told.and(left)
    }

    /// Takes the instance out of etcd, and waits until that is done, at most a second. It is
    /// registered no more, whatever clones there are.
    ///
    /// When it has left already, that is `Ok` at once.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) when there was no answer in that second, or
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when etcd was out of reach: the worker goes on
    /// trying while the registrar or a registration of it exists. [`Closed`](crate::ErrorKind::Closed)
    /// when the client was closed before the key was gone, and
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) when it may not be deleted: etcd
    /// forgets it when the lease ends.
    pub fn leave(&self) -> Result<()> {
        let begun = Instant::now();
        let left = self.handle.begin_leave().wait(begun + LEAVE_WITHIN);
        // It may have left, or ended, by what others did.
        let outcome = match (self.shared().ended(), left) {
            (Some(ended), _) => ended,
            (None, Outcome::Left) => Ok(()),
            (None, Outcome::Failed(_, error)) => Err(error),
            (None, Outcome::Open(_)) => Err(self.shared().leave_unanswered(begun)),
        };
        outcome.map_err(|error| {
            let about = Operation::about("leave", &self.instance().id);
            error.operation(about).tried(0, begun.elapsed())
        })
    }
}

impl Handle {
    /// A worker that is gone drops the ticket, which says so.
    fn begin_leave(&self) -> LeaveGroup {
        let (group, ticket) = LeaveGroup::new();
        let _ = self.link.tell(Command::Leave(self.number, ticket));
        group
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.ended().is_none() {
            // Nobody waits here: the drop of the link does, for all of its registrations together.
            let _ = self.begin_leave();
        }
    }
}

/// Whether an instance can be changed like this.
fn check_change(before: &Instance, after: &Instance) -> Result<()> {
    after.check()?;
    if (&before.service, &before.id, &before.addr) == (&after.service, &after.id, &after.addr) {
        return Ok(());
    }
    let reason = "the service, the id and the address of a registration stay: register another";
    Err(Error::invalid(reason))
}

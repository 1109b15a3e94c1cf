//! What the owner of one registered instance holds.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};

use super::instance::Instance;
use super::outlook::Outlook;
use super::refusal;
use super::registrar::Command;
use super::size_check::SizeCheck;
use super::status::Status;
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::lease::Deadline;
use crate::types::{LeaseId, Revision};

/// How a registration is.
///
/// `Starting` → `Registered` ⇄ `Suspect`, and to `Lost` and back to `Registered` whenever it was
/// restored; `Draining` when its instance says so, and `Closed` at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It was not registered yet.
    Starting,
    /// It is in etcd.
    Registered {
        /// The lease that its key hangs on.
        lease: LeaseId,
        /// The revision that put it there.
        revision: Revision,
        /// Until when it surely stays, if no more renewals get through.
        valid_until: Deadline,
    },
    /// It is in etcd as far as we know, but renewals do not get through.
    Suspect {
        /// When it is lost, unless one does.
        valid_until: Deadline,
    },
    /// It is not in etcd, or not known to be. It is being put back.
    Lost {
        /// What happened.
        why: Loss,
    },
    /// It is in etcd, and asks not to be called any more.
    Draining,
    /// It has left, or the client was closed. Nothing follows.
    Closed,
}

/// Why a registration was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// No renewal got through for as long as the lease lives.
    Unreachable,
    /// The lease is gone: it expired or was revoked, or the server lost its data.
    LeaseGone,
    /// Somebody deleted the key.
    KeyDeleted,
    /// Somebody overwrote the key with something that is no registration.
    Overwritten,
    /// Another process registered the same instance. It keeps it until it leaves.
    Replaced {
        /// By the owner of this lease.
        by: LeaseId,
    },
}

/// States that may wait to be read; older ones make room for newer ones.
const STATES: usize = 64;

/// How long leaving may take, when there is no answer.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// An instance that is registered, for as long as this exists.
///
/// Whatever happens to it (its lease expires or is revoked, its key is deleted or overwritten, the
/// store loses its data, the network goes away for an hour), it is put back, for ever. How it is,
/// is a [`State`].
///
/// Dropping it leaves: it deletes its key, unless that is a successor's. The drop waits for the
/// answer, at most a second (the first one; those dropped next do not wait for a server that does
/// not answer). Without an answer the worker goes on trying for as long as the registrar or another
/// registration of it exists, and etcd forgets the key when the lease ends. [`leave`](Registration::leave) is the same
/// with an answer.
#[derive(Debug)]
#[must_use = "dropping it takes the instance out of etcd"]
pub struct Registration {
    pub(super) number: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Sender<Command>,
    /// Whether etcd answers: when it does not, the next to leave need not wait as long again.
    pub(super) answers: Arc<AtomicBool>,
    pub(super) sizes: Arc<SizeCheck>,
    /// Keeps the worker running.
    pub(super) _worker: Arc<Worker>,
    pub(super) left: bool,
}

/// What the worker and the handle share.
pub(super) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// The lease, and what is in the way of all: known once the worker has the registration.
    outlook: OnceLock<Arc<Outlook>>,
    states: Receiver<State>,
}

struct Inner {
    state: State,
    instance: Arc<Instance>,
    revision: Option<Revision>,
    /// Why it cannot be registered at all, or the last trouble on the way.
    refused: Option<Error>,
    trouble: Option<Error>,
    sender: Option<Sender<State>>,
}

impl Registration {
    /// The instance, as it was last updated.
    pub fn instance(&self) -> Arc<Instance> {
        Arc::clone(&self.shared.inner.lock().instance)
    }

    /// How it is now.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Why it is not as it should be: what its last step was refused with, or what is in the way of
    /// all registrations of its registrar. `None` when there is nothing. It does not block.
    ///
    /// It says more than the state: an update that the server refuses leaves the old value in etcd,
    /// and the state `Registered`.
    pub fn last_error(&self) -> Option<Error> {
        self.shared.last_error()
    }

    /// Every change of its state, the newest 64 for a reader that is slow. It ends after `Closed`.
    pub fn states(&self) -> &Receiver<State> {
        &self.shared.states
    }

    /// The revision that last put it into etcd: whoever has seen that revision has seen it.
    pub fn revision(&self) -> Option<Revision> {
        self.shared.inner.lock().revision
    }

    /// Blocks until it is registered.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) when somebody else has it and that is final;
    /// [`Closed`](ErrorKind::Closed). After `timeout`, and the round trip that a lease takes which is
    /// granted meanwhile: the kind of the last trouble on the way, such as
    /// [`Unavailable`](ErrorKind::Unavailable) or [`PermissionDenied`](ErrorKind::PermissionDenied),
    /// or [`Timeout`](ErrorKind::Timeout) when there was none.
    pub fn wait_registered(&self, timeout: Duration) -> Result<Revision> {
        self.shared.wait_registered(timeout, false)
    }

    /// The same for one who gives up when it will not come about within `timeout`.
    pub(super) fn wait_now(&self, timeout: Duration) -> Result<Revision> {
        self.shared.wait_registered(timeout, true)
    }

    /// Registers the instance with other properties; its service, id and address stay. It is
    /// remembered: whatever is restored later is the newest.
    ///
    /// Returns at once; [`revision`](Registration::revision) grows when etcd has it.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an instance that cannot be registered, or
    /// that is another one; [`TooLarge`](ErrorKind::TooLarge) for one that the client does not send.
    /// Then the old value stays. It also stays when etcd refuses the new one:
    /// [`last_error`](Registration::last_error) says why.
    pub fn update(&self, instance: Instance) -> Result<()> {
        let about = || Operation::about("update", &instance.id);
        instance.check().map_err(|error| error.operation(about()))?;
        let now = self.instance();
        if (&instance.service, &instance.id, &instance.addr) != (&now.service, &now.id, &now.addr) {
            let reason =
                "the service, the id and the address of a registration stay: register another";
            return Err(Error::invalid(reason).operation(about()));
        }
        let fits = self.sizes.check(&instance);
        fits.map_err(|error| error.operation(about()))?;
        let instance = Arc::new(instance);
        self.shared.inner.lock().instance = Arc::clone(&instance);
        let update = Command::Update(self.number, instance);
        self.commands.send(update).map_err(|_| Error::closed())
    }

    /// Registers the instance with another status, such as [`Status::Draining`] before leaving: those
    /// who look stop calling it, and calls under way can end.
    ///
    /// # Errors
    ///
    /// As [`update`](Registration::update).
    pub fn set_status(&self, status: Status) -> Result<()> {
        let instance = Arc::unwrap_or_clone(self.instance()).status(status);
        self.update(instance)
    }

    /// Takes the instance out of etcd, and waits until that is done, at most a second.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when there was no answer in that second; the worker goes on
    /// trying while its registrar exists. [`PermissionDenied`](ErrorKind::PermissionDenied) when the
    /// key may not be deleted: it stays until its lease ends.
    pub fn leave(mut self) -> Result<()> {
        self.leave_now()
    }

    fn leave_now(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.left, true) {
            return Ok(());
        }
        let (reply, left) = bounded::<Result<()>>(1);
        if self
            .commands
            .send(Command::Leave(self.number, reply))
            .is_err()
        {
            return Ok(());
        }
        let patience = if self.answers.load(Relaxed) {
            LEAVE_WITHIN
        } else {
            Duration::ZERO
        };
        match left.recv_timeout(patience) {
            Ok(left) => left,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Ok(()),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                self.answers.store(false, Relaxed);
                let about = Operation::about("leave", &self.instance().id);
                let reason = format!("no answer in {LEAVE_WITHIN:?}");
                Err(Error::new(ErrorKind::Timeout, reason).operation(about))
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // A drop has nobody to tell; `leave` is the same with an answer.
        let _ = self.leave_now();
    }
}

impl Shared {
    pub(super) fn new(instance: Arc<Instance>) -> Arc<Self> {
        let (sender, states) = bounded(STATES);
        let inner = Inner {
            state: State::Starting,
            instance,
            revision: None,
            refused: None,
            trouble: None,
            sender: Some(sender),
        };
        Arc::new(Shared {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            outlook: OnceLock::new(),
            states,
        })
    }

    /// The worker has it from now on.
    pub(super) fn attach(&self, outlook: &Arc<Outlook>) {
        let _ = self.outlook.set(Arc::clone(outlook));
    }

    /// How it is, as of now: the end of the lease comes without anybody's doing.
    pub(super) fn state(&self) -> State {
        self.as_of_now(self.inner.lock().state.clone())
    }

    fn as_of_now(&self, state: State) -> State {
        let Some(outlook) = self.outlook.get() else {
            return state;
        };
        let valid_until = outlook.valid_until();
        match state {
            State::Registered { .. } | State::Suspect { .. } if valid_until.has_passed() => {
                let why = Loss::Unreachable;
                State::Lost { why }
            }
            State::Registered {
                lease, revision, ..
            } if !outlook.is_suspect() => State::Registered {
                lease,
                revision,
                valid_until,
            },
            State::Registered { .. } | State::Suspect { .. } => State::Suspect { valid_until },
            state => state,
        }
    }

    /// Why it is not as it should be: the reason of its own, or what is in the way of all.
    pub(super) fn last_error(&self) -> Option<Error> {
        let own = self.inner.lock().trouble.clone();
        own.or_else(|| self.outlook.get()?.trouble())
    }

    pub(super) fn instance(&self) -> Arc<Instance> {
        Arc::clone(&self.inner.lock().instance)
    }

    /// Shows a state, the revision that put the key there if it is there, and why it is not as it
    /// should be; tells the state when it is more than a renewal of the last one.
    pub(super) fn show(&self, state: State, put_at: Option<Revision>, trouble: Option<Error>) {
        let mut inner = self.inner.lock();
        if put_at.is_some() {
            inner.revision = put_at;
        }
        inner.trouble = trouble;
        let told = is_news(&inner.state, &state);
        inner.state = state.clone();
        if told {
            let closed = state == State::Closed;
            if let Some(sender) = &inner.sender {
                if sender.is_full() {
                    let _ = self.states.try_recv();
                }
                let _ = sender.try_send(state);
            }
            if closed {
                inner.sender = None;
            }
        }
        drop(inner);
        self.changed.notify_all();
    }

    pub(super) fn refuse(&self, error: Error) {
        self.inner.lock().refused = Some(error);
        self.changed.notify_all();
    }

    /// Waits; with `no_longer_than_needed` only while it may still come about within this time.
    pub(super) fn wait_registered(
        &self,
        timeout: Duration,
        no_longer_than_needed: bool,
    ) -> Result<Revision> {
        let begun = Instant::now();
        let mut inner = self.inner.lock();
        loop {
            let about = || Operation::about("register", &inner.instance.id);
            match (self.as_of_now(inner.state.clone()), inner.revision) {
                (State::Registered { .. } | State::Suspect { .. } | State::Draining, Some(at)) => {
                    return Ok(at);
                }
                (State::Closed, _) => return Err(Error::closed().operation(about())),
                _ => {}
            }
            if let Some(refused) = &inner.refused {
                return Err(refused.clone().operation(about()));
            }
            let outlook = self.outlook.get();
            let trouble = inner.trouble.clone();
            let trouble = trouble.or_else(|| outlook?.trouble());
            if let Some(trouble) = &trouble
                && refusal::is_final(trouble.kind())
                && no_longer_than_needed
            {
                return Err(trouble.clone().operation(about()));
            }
            // A registration takes two round trips when the lease is the first: each has the timeout.
            let granted = outlook.and_then(|outlook| outlook.granted_at());
            let from = granted.map_or(begun, |granted| granted.max(begun));
            let deadline = from.checked_add(timeout);
            match deadline {
                Some(deadline) if deadline <= Instant::now() => {
                    return Err(not_in_time(trouble, timeout).operation(about()));
                }
                Some(deadline) => drop(self.changed.wait_until(&mut inner, deadline)),
                None => self.changed.wait(&mut inner),
            }
        }
    }
}

/// The registration did not come about: by the last trouble on the way if there was one.
fn not_in_time(trouble: Option<Error>, timeout: Duration) -> Error {
    let reason = format!("not registered in {timeout:?}");
    match trouble {
        Some(trouble) => Error::new(trouble.kind(), reason)
            .last(trouble.to_string())
            .caused_by(trouble),
        None => Error::new(ErrorKind::Timeout, reason),
    }
}

/// Whether `now` is another state than `before`, and not the same with a later deadline.
fn is_news(before: &State, now: &State) -> bool {
    match (before, now) {
        (
            State::Registered {
                lease: a,
                revision: r,
                ..
            },
            State::Registered {
                lease: b,
                revision: s,
                ..
            },
        ) => (a, r) != (b, s),
        (State::Suspect { .. }, State::Suspect { .. }) => false,
        (before, now) => before != now,
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        f.debug_struct("Shared")
            .field("state", &inner.state)
            .field("id", &inner.instance.id)
            .finish_non_exhaustive()
    }
}

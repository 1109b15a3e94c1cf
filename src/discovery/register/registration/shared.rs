//! What the worker and the handles of one registration share.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::state::{Loss, State, is_news};
use crate::discovery::instance::Instance;
use crate::discovery::register::lease_validity::LeaseValidity;
use crate::discovery::register::refusal;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::types::{LeaseId, Revision};

/// States that may wait to be read; older ones make room for newer ones.
const STATES: usize = 64;

pub(in crate::discovery) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// The lease, and what is in the way of all: known once the worker has the registration.
    validity: Mutex<Option<Arc<LeaseValidity>>>,
    states: Receiver<State>,
}

struct Inner {
    state: State,
    instance: Arc<Instance>,
    /// Counts what the instance was changed to, and which of those etcd has.
    version: u64,
    stored: Option<u64>,
    revision: Option<Revision>,
    /// Why it cannot be registered at all, or the last trouble on the way.
    refused: Option<Error>,
    trouble: Option<Error>,
    /// The lease of another process that the key hangs on, which is waited for.
    held_by: Option<LeaseId>,
    /// It has left, or why it ended otherwise.
    ended: Option<Result<()>>,
    sender: Option<Sender<State>>,
}

/// Another process has the key, and it is waited for.
fn is_held(by: LeaseId) -> Error {
    let reason = format!("lease {by} of another process holds its key, until that lease ends");
    Error::new(ErrorKind::Conflict, reason)
}

impl Shared {
    pub(in crate::discovery) fn new(instance: Arc<Instance>) -> Arc<Self> {
        let (sender, states) = bounded(STATES);
        let inner = Inner {
            state: State::Starting,
            instance,
            version: 0,
            stored: None,
            revision: None,
            refused: None,
            trouble: None,
            held_by: None,
            ended: None,
            sender: Some(sender),
        };
        Arc::new(Shared {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            validity: Mutex::new(None),
            states,
        })
    }

    /// The lease that counts from now on.
    pub(in crate::discovery) fn attach(&self, validity: &Arc<LeaseValidity>) {
        let mut attached = self.validity.lock();
        let is_same = |old: &Arc<LeaseValidity>| Arc::ptr_eq(old, validity);
        if !attached.as_ref().is_some_and(is_same) {
            *attached = Some(Arc::clone(validity));
        }
    }

    fn validity(&self) -> Option<Arc<LeaseValidity>> {
        self.validity.lock().clone()
    }

    /// How it is, as of now: the end of the lease comes without anybody's doing.
    pub(in crate::discovery) fn state(&self) -> State {
        self.as_of_now(self.inner.lock().state.clone())
    }

    fn as_of_now(&self, state: State) -> State {
        let Some(validity) = self.validity() else {
            return state;
        };
        let valid_until = validity.valid_until();
        match state {
            State::Registered { .. } | State::Suspect { .. } if valid_until.has_passed() => {
                let why = Loss::Unreachable;
                State::Lost { why }
            }
            State::Registered {
                lease, revision, ..
            } if !validity.is_suspect() => State::Registered {
                lease,
                revision,
                valid_until,
            },
            State::Registered { .. } | State::Suspect { .. } => State::Suspect { valid_until },
            state => state,
        }
    }

    pub(super) fn states(&self) -> &Receiver<State> {
        &self.states
    }

    pub(super) fn revision(&self) -> Option<Revision> {
        self.inner.lock().revision
    }

    pub(in crate::discovery) fn instance(&self) -> Arc<Instance> {
        Arc::clone(&self.inner.lock().instance)
    }

    /// The newest instance, and which version it is.
    pub(in crate::discovery) fn newest(&self) -> (Arc<Instance>, u64) {
        let inner = self.inner.lock();
        (Arc::clone(&inner.instance), inner.version)
    }

    /// Replaces the instance if it is still `before`. Returns whether it was.
    pub(super) fn replace(&self, before: &Arc<Instance>, after: Instance) -> Result<bool> {
        let mut inner = self.inner.lock();
        if let Some(ended) = &inner.ended {
            return Err(why_ended(ended));
        }
        if !Arc::ptr_eq(&inner.instance, before) {
            return Ok(false);
        }
        inner.instance = Arc::new(after);
        inner.version += 1;
        // What was refused was the value before.
        inner
            .trouble
            .take_if(|error| refusal::is_final(error.kind()));
        Ok(true)
    }

    /// Shows a state; the revision that put the key there and the version that it has, if it is
    /// there; the lease of another process that has the key, and is waited for; and why it is not as
    /// it should be.
    pub(in crate::discovery) fn show(
        &self,
        state: State,
        stored: Option<(Revision, u64)>,
        held_by: Option<LeaseId>,
        trouble: Option<Error>,
    ) {
        let mut inner = self.inner.lock();
        inner.held_by = held_by;
        if let Some((revision, version)) = stored {
            inner.revision = Some(revision);
            inner.stored = Some(version);
        }
        inner.trouble = trouble;
        self.set_state(inner, state);
    }

    fn set_state(&self, mut inner: MutexGuard<'_, Inner>, state: State) {
        let is_told = is_news(&inner.state, &state);
        inner.state = state.clone();
        if let (true, Some(sender)) = (is_told, &inner.sender) {
            if sender.is_full() {
                let _ = self.states.try_recv();
            }
            let _ = sender.try_send(state);
        }
        if inner.ended.is_some() {
            inner.sender = None;
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// It has left, or why it ended otherwise: nothing follows.
    pub(in crate::discovery) fn end(&self, outcome: Result<()>) {
        let mut inner = self.inner.lock();
        inner.ended.get_or_insert(outcome);
        self.set_state(inner, State::Closed);
    }

    pub(in crate::discovery) fn refuse(&self, error: Error) {
        self.inner.lock().refused = Some(error);
        self.changed.notify_all();
    }

    /// Why it is not as it should be: the reason of its own, or what is in the way of all.
    pub(super) fn last_error(&self) -> Option<Error> {
        let inner = self.inner.lock();
        let closed = inner.ended.as_ref().and_then(|ended| ended.as_ref().err());
        let own = closed.or(inner.refused.as_ref()).cloned();
        own.or_else(|| self.trouble(&inner))
            .or_else(|| inner.held_by.map(is_held))
    }

    fn trouble(&self, inner: &Inner) -> Option<Error> {
        let own = inner.trouble.clone();
        own.or_else(|| self.validity()?.trouble())
    }

    /// The error of one who waited for `what` and gave up: by the last trouble on the way if there
    /// was one.
    fn late(&self, inner: &Inner, what: String) -> Error {
        if let Some(trouble) = self.trouble(inner) {
            return Error::new(trouble.kind(), what)
                .last(trouble.to_string())
                .caused_by(trouble);
        }
        let error = Error::new(ErrorKind::Timeout, what);
        match inner.held_by {
            Some(lease) => error.last(is_held(lease).to_string()),
            None => error,
        }
    }

    pub(in crate::discovery) fn held_by(&self) -> Option<LeaseId> {
        self.inner.lock().held_by
    }

    /// How it ended, once it has.
    pub(super) fn ended(&self) -> Option<Result<()>> {
        self.inner.lock().ended.clone()
    }

    /// Waits; with `no_longer_than_needed` only while it may still come about within this time.
    pub(super) fn wait_registered(
        &self,
        timeout: Duration,
        no_longer_than_needed: bool,
    ) -> Result<Revision> {
        let done = |inner: &Inner| {
            if let Some(ended) = &inner.ended {
                return Some(Err(why_ended(ended)));
            }
            if let (State::Registered { .. } | State::Suspect { .. } | State::Draining, Some(at)) =
                (self.as_of_now(inner.state.clone()), inner.revision)
            {
                return Some(Ok(at));
            }
            let trouble = || self.trouble(inner).filter(|_| no_longer_than_needed);
            let refused = inner.refused.clone();
            let refused = refused.or_else(|| trouble().filter(|e| refusal::is_final(e.kind())));
            refused.map(Err)
        };
        self.wait("register", timeout, done, |inner| {
            self.late(inner, format!("not registered in {timeout:?}"))
        })
    }

    /// Waits until etcd has the version that is the newest now, or a newer one.
    pub(super) fn wait_updated(&self, timeout: Duration) -> Result<Revision> {
        let version = self.inner.lock().version;
        let done = |inner: &Inner| match (inner.stored, inner.revision, &inner.ended) {
            (Some(stored), Some(at), _) if stored >= version => Some(Ok(at)),
            (_, _, Some(ended)) => Some(Err(why_ended(ended))),
            _ => {
                let refused = inner.refused.clone().or_else(|| self.trouble(inner));
                refused.filter(|e| refusal::is_final(e.kind())).map(Err)
            }
        };
        self.wait("update", timeout, done, |inner| {
            self.late(inner, format!("not updated in {timeout:?}"))
        })
    }

    /// Waits until it has ended. Returns whether it has.
    pub(super) fn wait_ended(&self, timeout: Duration) -> bool {
        let done = |inner: &Inner| inner.ended.as_ref().map(|_| Ok(()));
        self.wait("drain", timeout, done, |_| Error::closed())
            .is_ok()
    }

    /// The error of a leave that had no answer since `begun`.
    pub(super) fn leave_unanswered(&self, begun: Instant) -> Error {
        let inner = self.inner.lock();
        self.late(&inner, format!("no answer in {:?}", begun.elapsed()))
    }

    fn wait<T>(
        &self,
        verb: &'static str,
        timeout: Duration,
        done: impl Fn(&Inner) -> Option<Result<T>>,
        late: impl FnOnce(&Inner) -> Error,
    ) -> Result<T> {
        let begun = Instant::now();
        let mut inner = self.inner.lock();
        let result = loop {
            if let Some(result) = done(&inner) {
                break result;
            }
            // A registration takes two round trips when the lease is the first: each has the timeout.
            let granted = self.validity().and_then(|validity| validity.granted_at());
            let from = granted.map_or(begun, |granted| granted.max(begun));
            match from.checked_add(timeout) {
                Some(deadline) if deadline <= Instant::now() => {
                    break Err(late(&inner).tried(0, begun.elapsed()));
                }
                Some(deadline) => drop(self.changed.wait_until(&mut inner, deadline)),
                None => self.changed.wait(&mut inner),
            }
        };
        result.map_err(|error| error.operation(Operation::about(verb, &inner.instance.id)))
    }
}

fn why_ended(ended: &Result<()>) -> Error {
    match ended {
        Ok(()) => Error::closed().reason("it has left"),
        Err(error) => error.clone(),
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

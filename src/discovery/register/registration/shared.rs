//! The data that the worker and the handles of one registration share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::state::{Loss, State, is_visible_change};
use crate::discovery::instance::Instance;
use crate::discovery::overrides::operator_override::Override;
use crate::discovery::register::lease_validity::LeaseValidity;
use crate::discovery::register::refusal;
use crate::discovery::register::verdict::Verdict;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::types::{LeaseId, Revision};

/// The number of unread states that the channel keeps. A newer state replaces the oldest.
const STATES: usize = 64;

/// The shared data of one registration.
pub(in crate::discovery) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// The validity of the lease. It is set when the worker receives the registration.
    validity: Mutex<Option<Arc<LeaseValidity>>>,
    /// The channel of states. It is created when it is first requested.
    states: OnceLock<Receiver<State>>,
}

struct Inner {
    state: State,
    instance: Arc<Instance>,
    /// What its health checks allow.
    verdict: Verdict,
    /// The number of changes of the instance and the verdict.
    version: u64,
    /// The version that etcd has.
    stored: Option<u64>,
    revision: Option<Revision>,
    /// The reason why it cannot be registered at all.
    refused: Option<Error>,
    /// The reason why its last step failed.
    error: Option<Error>,
    /// The lease of the other process that holds the key.
    held_by: Option<LeaseId>,
    /// The outcome, once it has ended: `Ok` if it has left.
    ended: Option<Result<()>>,
    /// Woken when it ends: the health checks.
    at_end: Option<Waker>,
    /// The states before the channel was created.
    early: VecDeque<State>,
    /// The ends of the channel, from its creation until the registration ends.
    channel: Option<(Sender<State>, Receiver<State>)>,
}

/// The error while another process holds the key.
fn held_error(by: LeaseId) -> Error {
    let reason = format!("its key belongs to lease {by} of another process until that lease ends");
    Error::new(ErrorKind::Conflict, reason)
}

impl Shared {
    pub(in crate::discovery) fn new(instance: Arc<Instance>, verdict: Verdict) -> Arc<Self> {
        let inner = Inner {
            state: State::Starting,
            instance,
            verdict,
            version: 0,
            stored: None,
            revision: None,
            refused: None,
            error: None,
            held_by: None,
            ended: None,
            at_end: None,
            early: VecDeque::new(),
            channel: None,
        };
        Arc::new(Shared {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            validity: Mutex::new(None),
            states: OnceLock::new(),
        })
    }

    /// Sets the lease that the state depends on.
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

    /// The current state. It is computed on each call, because a lease expires without an event.
    pub(in crate::discovery) fn state(&self) -> State {
        self.refreshed(self.inner.lock().state.clone())
    }

    fn refreshed(&self, state: State) -> State {
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

    /// The channel of states. The first call creates it.
    pub(super) fn states(&self) -> &Receiver<State> {
        self.states.get_or_init(|| {
            let (sender, states) = bounded(STATES);
            let mut inner = self.inner.lock();
            for state in std::mem::take(&mut inner.early) {
                // They fit: `queue` keeps at most `STATES` of them.
                let _ = sender.try_send(state);
            }
            inner.channel = (inner.ended.is_none()).then(|| (sender, states.clone()));
            states
        })
    }

    pub(super) fn revision(&self) -> Option<Revision> {
        self.inner.lock().revision
    }

    pub(in crate::discovery) fn instance(&self) -> Arc<Instance> {
        Arc::clone(&self.inner.lock().instance)
    }

    /// The newest instance to register, or `None` if it must not be in etcd, and which version it is.
    pub(in crate::discovery) fn newest(
        &self,
        by_operator: Option<Override>,
    ) -> (Option<Arc<Instance>>, u64) {
        let inner = self.inner.lock();
        let newest = inner.verdict.apply(&inner.instance, by_operator);
        (newest, inner.version)
    }

    /// Sets what the health checks allow. Returns whether it is another verdict than before.
    pub(super) fn set_verdict(&self, verdict: Verdict) -> Result<bool> {
        let mut inner = self.inner.lock();
        if let Some(ended) = &inner.ended {
            return Err(why_ended(ended));
        }
        if inner.verdict == verdict {
            return Ok(false);
        }
        inner.verdict = verdict;
        inner.version += 1;
        Ok(true)
    }

    /// Replaces the instance if it is still `before`. Returns whether it was replaced.
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
        // The refusal was about the previous value.
        inner.error.take_if(|error| refusal::is_final(error.kind()));
        Ok(true)
    }

    /// Publishes a state. `stored` is the revision and the version of the instance in etcd, `held_by`
    /// the lease of the other process that holds the key, and `error` why the last step failed.
    pub(in crate::discovery) fn publish(
        &self,
        state: State,
        stored: Option<(Revision, u64)>,
        held_by: Option<LeaseId>,
        error: Option<Error>,
    ) {
        let mut inner = self.inner.lock();
        inner.held_by = held_by;
        if let Some((revision, version)) = stored {
            inner.revision = Some(revision);
            inner.stored = Some(version);
        }
        inner.error = error;
        self.set_state(inner, state);
    }

    fn set_state(&self, mut inner: MutexGuard<'_, Inner>, state: State) {
        let is_visible = is_visible_change(&inner.state, &state);
        inner.state = state.clone();
        if is_visible {
            inner.queue(state);
        }
        if inner.ended.is_some() {
            inner.channel = None;
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Ends the registration with this outcome. The first outcome is kept.
    pub(in crate::discovery) fn end(&self, outcome: Result<()>) {
        let mut inner = self.inner.lock();
        inner.ended.get_or_insert(outcome);
        let waker = inner.at_end.take();
        self.set_state(inner, State::Closed);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(in crate::discovery) fn refuse(&self, error: Error) {
        self.inner.lock().refused = Some(error);
        self.changed.notify_all();
    }

    /// The error of this registration, or the error that affects all registrations of its registrar.
    pub(super) fn last_error(&self) -> Option<Error> {
        let inner = self.inner.lock();
        let closed = inner.ended.as_ref().and_then(|ended| ended.as_ref().err());
        let own = closed.or(inner.refused.as_ref()).cloned();
        own.or_else(|| self.error(&inner))
            .or_else(|| inner.held_by.map(held_error))
    }

    fn error(&self, inner: &Inner) -> Option<Error> {
        let own = inner.error.clone();
        own.or_else(|| self.validity()?.error())
    }

    /// The error of a wait that timed out. It has the kind of the last error, if there was one.
    fn wait_error(&self, inner: &Inner, what: String) -> Error {
        if let Some(error) = self.error(inner) {
            return Error::new(error.kind(), what)
                .last(error.to_string())
                .caused_by(error);
        }
        let error = Error::new(ErrorKind::Timeout, what);
        if let Some(reason) = inner.verdict.withdrawn() {
            return error.last(format!("withdrawn by its health checks: {reason}"));
        }
        match inner.held_by {
            Some(lease) => error.last(held_error(lease).to_string()),
            None => error,
        }
    }

    pub(in crate::discovery) fn held_by(&self) -> Option<LeaseId> {
        self.inner.lock().held_by
    }

    /// The outcome, once it has ended.
    pub(super) fn ended(&self) -> Option<Result<()>> {
        self.inner.lock().ended.clone()
    }

    /// Wakes the waker when the registration ends, or now if it has ended.
    pub(super) fn wake_at_end(&self, waker: &Waker) {
        let mut inner = self.inner.lock();
        if inner.ended.is_none() {
            inner.at_end = Some(waker.clone());
        } else {
            drop(inner);
            waker.wake_by_ref();
        }
    }

    /// Waits until it is registered, or until it is known to be out of etcd because no format can express its
    /// status. With `fails_fast`, an error that will repeat ends the wait at
    /// once.
    pub(super) fn wait_registered(&self, timeout: Duration, fails_fast: bool) -> Result<Revision> {
        let done = |inner: &Inner| {
            if let Some(ended) = &inner.ended {
                return Some(Err(why_ended(ended)));
            }
            if let (State::Registered { .. } | State::Suspect { .. } | State::Draining, Some(at)) =
                (self.refreshed(inner.state.clone()), inner.revision)
            {
                return Some(Ok(at));
            }
            // It is in etcd as it is wanted: not at all, until its status changes.
            let is_wanted =
                inner.stored == Some(inner.version) && inner.verdict.withdrawn().is_none();
            if let (State::Withdrawn, true, Some(at)) = (&inner.state, is_wanted, inner.revision) {
                return Some(Ok(at));
            }
            let error = || self.error(inner).filter(|_| fails_fast);
            let refused = inner.refused.clone();
            let refused = refused.or_else(|| error().filter(|e| refusal::is_final(e.kind())));
            refused.map(Err)
        };
        self.wait("register", timeout, done, |inner| {
            self.wait_error(inner, format!("not registered in {timeout:?}"))
        })
    }

    /// Waits until etcd has the version that is the newest at the time of the call, or a newer one.
    pub(super) fn wait_updated(&self, timeout: Duration) -> Result<Revision> {
        let version = self.inner.lock().version;
        let done = |inner: &Inner| match (inner.stored, inner.revision, &inner.ended) {
            (Some(stored), Some(at), _) if stored >= version => Some(Ok(at)),
            (_, _, Some(ended)) => Some(Err(why_ended(ended))),
            _ => {
                let refused = inner.refused.clone().or_else(|| self.error(inner));
                refused.filter(|e| refusal::is_final(e.kind())).map(Err)
            }
        };
        self.wait("update", timeout, done, |inner| {
            self.wait_error(inner, format!("not updated in {timeout:?}"))
        })
    }

    /// Waits until it has ended. Returns whether it ended in time.
    pub(super) fn wait_ended(&self, timeout: Duration) -> bool {
        let done = |inner: &Inner| inner.ended.as_ref().map(|_| Ok(()));
        self.wait("drain", timeout, done, |_| Error::closed())
            .is_ok()
    }

    /// The error of a leave that had no answer since `begun`.
    pub(super) fn leave_unanswered(&self, begun: Instant) -> Error {
        let inner = self.inner.lock();
        self.wait_error(&inner, format!("no answer in {:?}", begun.elapsed()))
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
            // The first registration takes two requests, the grant and the write. Each may take the
            // whole timeout.
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

impl Inner {
    /// Queues a state. In a full queue, it replaces the oldest state.
    fn queue(&mut self, state: State) {
        match &self.channel {
            Some((sender, states)) => {
                if sender.is_full() {
                    let _ = states.try_recv();
                }
                let _ = sender.try_send(state);
            }
            None => {
                if self.early.len() >= STATES {
                    self.early.pop_front();
                }
                // Most registrations have one state before somebody asks.
                self.early.reserve_exact(1);
                self.early.push_back(state);
            }
        }
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

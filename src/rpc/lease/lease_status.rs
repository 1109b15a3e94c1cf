//! The status of a lease that is kept alive: the task writes it, the holder reads it at any time.
//!
//! The loss of a lease is final, because its holder acts on it. An answer to a renewal that arrives
//! later does not revive the lease.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::renewal::Renewal;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::runtime::{BoundedReceiver, BoundedSender, Capacity, bounded_queue};
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;
use crate::util::sync::OnceLock;

/// The capacity for unread renewals.
const ROOM: Capacity = Capacity {
    items: 16,
    bytes: usize::MAX,
};

#[derive(Debug)]
struct Shared {
    lease: LeaseId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The newest renewal; `None` before the first answer.
    newest: Option<Renewal>,
    /// A renewal is late.
    is_late: bool,
    /// Why the lease is not kept alive any more.
    end: Option<Error>,
    keeping: Keeping,
}

/// Whether the task keeps the lease alive.
#[derive(Debug)]
enum Keeping {
    /// Keeps it alive. The observers exist once there is one.
    Alive(Option<Box<Observers>>),
    /// Has reported its loss.
    Lost,
    /// The handle was dropped.
    Dropped,
}

/// The channels, threads and tasks that observe the lease.
#[derive(Debug, Default)]
struct Observers {
    renewals: Option<BoundedSender<Result<Renewal>>>,
    lost: Option<Sender<Error>>,
    /// Woken when the [view](LeaseView) changes.
    waker: Option<Waker>,
    /// Notified when the task stops keeping the lease alive.
    stopped: Arc<Notify>,
}

/// What a thread has seen of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseView {
    is_renewed: bool,
    is_late: bool,
    is_stopped: bool,
}

/// The holder's end.
#[derive(Debug)]
pub(super) struct LeaseStatus {
    shared: Arc<Shared>,
    renewals: OnceLock<BoundedReceiver<Result<Renewal>>>,
    lost: OnceLock<Receiver<Error>>,
}

/// The task's end. Dropping it reports that the client was closed or that the task panicked.
#[derive(Debug)]
pub(super) struct LeaseStatusWriter(Arc<Shared>);

/// Waits for the end of a lease. Requests under a lease use it beside their answer.
#[derive(Clone, Debug)]
pub(crate) struct LeaseWaiter(Arc<Shared>);

/// The two ends of the status of a lease.
pub(super) fn lease_status(lease: LeaseId) -> (LeaseStatusWriter, LeaseStatus) {
    let shared = Arc::new(Shared {
        lease,
        state: Mutex::new(State {
            newest: None,
            is_late: false,
            end: None,
            keeping: Keeping::Alive(None),
        }),
    });
    let status = LeaseStatus {
        shared: Arc::clone(&shared),
        renewals: OnceLock::new(),
        lost: OnceLock::new(),
    };
    (LeaseStatusWriter(shared), status)
}

impl LeaseStatusWriter {
    /// Records a renewal. Returns `false` when the lease has been reported as lost.
    pub(super) fn renewed(&self, renewal: &Renewal) -> bool {
        let mut state = self.0.state.lock();
        if state.end.is_some() {
            return false;
        }
        let is_change = state.newest.is_none() || state.is_late;
        (state.newest, state.is_late) = (Some(renewal.clone()), false);
        if let Keeping::Alive(Some(observers)) = &mut state.keeping {
            if let Some(renewals) = &mut observers.renewals {
                // A full queue drops the renewal: the status has the newest one.
                let _ = renewals.offer(Ok(renewal.clone()), 0);
            }
            if is_change {
                self.0.wake(state);
            }
        }
        true
    }

    /// Records that a renewal is late.
    pub(super) fn late(&self) {
        let mut state = self.0.state.lock();
        state.is_late = true;
        self.0.wake(state);
    }

    /// The newest renewal.
    pub(super) fn newest(&self) -> Option<Renewal> {
        self.0.state.lock().newest.clone()
    }

    /// Reports the loss of the lease. The first reason stays.
    pub(super) fn lost(self, why: Error) {
        self.0.stop(Keeping::Lost, || why);
    }

    /// Ends without a report to the holder, which was dropped.
    pub(super) fn dropped(self) {
        self.0
            .stop(Keeping::Dropped, || holder_dropped(self.0.lease));
    }
}

impl Drop for LeaseStatusWriter {
    fn drop(&mut self) {
        let about = || Operation::about("keep alive lease", self.0.lease);
        self.0
            .stop(Keeping::Lost, || Error::abandoned().operation(about()));
    }
}

impl LeaseStatus {
    /// The queue of renewals, which begins with the newest one. The first call creates it.
    pub(super) fn renewals(&self) -> &BoundedReceiver<Result<Renewal>> {
        self.renewals.get_or_init(|| {
            let (mut sender, receiver) = bounded_queue(ROOM, Err);
            let state = &mut *self.shared.state.lock();
            if let Some(newest) = &state.newest {
                sender.offer(Ok(newest.clone()), 0);
            }
            match (&mut state.keeping, &state.end) {
                (Keeping::Alive(observers), _) => {
                    observers.get_or_insert_default().renewals = Some(sender);
                }
                (Keeping::Lost, Some(why)) => sender.finish(why.clone()),
                (Keeping::Lost, None) | (Keeping::Dropped, _) => sender.end(),
            }
            receiver
        })
    }

    /// The channel that receives the loss. The first call creates it.
    pub(super) fn lost(&self) -> &Receiver<Error> {
        self.lost.get_or_init(|| {
            let (sender, receiver) = bounded(1);
            let state = &mut *self.shared.state.lock();
            match (&mut state.keeping, &state.end) {
                (Keeping::Alive(observers), _) => {
                    observers.get_or_insert_default().lost = Some(sender);
                }
                // It has room: this is its only item.
                (Keeping::Lost, Some(why)) => drop(sender.try_send(why.clone())),
                (Keeping::Lost, None) | (Keeping::Dropped, _) => {}
            }
            receiver
        })
    }

    /// The reported loss.
    pub(super) fn ended(&self) -> Option<Error> {
        let state = self.shared.state.lock();
        match state.keeping {
            Keeping::Lost => state.end.clone(),
            Keeping::Alive(_) | Keeping::Dropped => None,
        }
    }

    pub(super) fn remaining(&self, now: BootTime) -> Duration {
        let state = self.shared.state.lock();
        match (state.until(), &state.end) {
            (Some(until), None) => until.since(now),
            (None, _) | (_, Some(_)) => Duration::ZERO,
        }
    }

    /// Checks that the lease is not lost. A loss by the clock is final.
    pub(super) fn check(&self, now: BootTime) -> Result<()> {
        self.shared.check(now)
    }

    /// What [`wake_on_change`](LeaseStatus::wake_on_change) compares.
    pub(super) fn view(&self) -> LeaseView {
        LeaseView::of(&self.shared.state.lock())
    }

    /// Wakes the waker when the lease differs from what was `seen` of it: now, or later once.
    pub(super) fn wake_on_change(&self, seen: LeaseView, waker: &Waker) {
        let mut state = self.shared.state.lock();
        let is_seen = LeaseView::of(&state) == seen;
        match &mut state.keeping {
            Keeping::Alive(observers) if is_seen => {
                observers.get_or_insert_default().waker = Some(waker.clone());
            }
            // What has stopped does not change any more.
            Keeping::Lost | Keeping::Dropped if is_seen => {}
            _ => {
                drop(state);
                waker.wake_by_ref();
            }
        }
    }

    /// A waiter for the end of the lease.
    pub(super) fn waiter(&self) -> LeaseWaiter {
        LeaseWaiter(Arc::clone(&self.shared))
    }
}

impl LeaseView {
    /// What was seen of a lease that was just granted.
    pub(crate) const GRANTED: LeaseView = LeaseView {
        is_renewed: false,
        is_late: false,
        is_stopped: false,
    };

    fn of(state: &State) -> Self {
        LeaseView {
            is_renewed: state.newest.is_some(),
            is_late: state.is_late,
            is_stopped: !matches!(state.keeping, Keeping::Alive(_)),
        }
    }
}

impl Shared {
    /// Wakes the thread that observes the lease, without the lock.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let waker = match &mut state.keeping {
            Keeping::Alive(Some(observers)) => observers.waker.take(),
            _ => None,
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the keeping, once. The first reason of the end stays.
    fn stop(&self, stopped: Keeping, why: impl FnOnce() -> Error) {
        let mut state = self.state.lock();
        let Keeping::Alive(observers) = &mut state.keeping else {
            return;
        };
        let observers = observers.take().map(|observers| *observers);
        let is_reported = matches!(stopped, Keeping::Lost);
        state.keeping = stopped;
        let why = state.end.get_or_insert_with(why).clone();
        drop(state);
        let Some(observers) = observers else { return };
        match observers.renewals {
            Some(renewals) if is_reported => renewals.finish(why.clone()),
            Some(renewals) => renewals.end(),
            None => {}
        }
        if let (true, Some(lost)) = (is_reported, observers.lost) {
            // The channel has room for its only item.
            let _ = lost.try_send(why);
        }
        if let Some(waker) = observers.waker {
            waker.wake();
        }
        observers.stopped.notify_waiters();
    }

    fn check(&self, now: BootTime) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(until) = state.until().filter(|until| *until <= now) {
            state.end.get_or_insert_with(|| {
                let late = now.since(until);
                let reason =
                    format!("its time ran out {late:.1?} ago, and no renewal was answered");
                Error::new(ErrorKind::LeaseExpired, reason)
                    .operation(Operation::about("keep alive lease", self.lease))
            });
        }
        state.end.as_ref().map_or(Ok(()), |why| Err(why.clone()))
    }
}

impl State {
    /// The time until which the lease is certain to live, once a renewal was answered.
    fn until(&self) -> Option<BootTime> {
        self.newest.as_ref().map(Renewal::until)
    }
}

impl LeaseWaiter {
    /// A waiter for a lease that has ended.
    pub(crate) fn ended(lease: LeaseId, why: Error) -> LeaseWaiter {
        let (writer, status) = lease_status(lease);
        writer.lost(why);
        status.waiter()
    }

    pub(crate) fn lease(&self) -> LeaseId {
        self.0.lease
    }

    /// The newest renewal, once one was answered.
    pub(crate) fn newest(&self) -> Option<Renewal> {
        self.0.state.lock().newest.clone()
    }

    pub(crate) fn check(&self, now: BootTime) -> Result<()> {
        self.0.check(now)
    }

    /// Waits until the lease is no longer kept alive. Returns the reason.
    pub(crate) async fn wait(self) -> Error {
        let stopped = match &mut self.0.state.lock().keeping {
            Keeping::Alive(observers) => {
                Some(Arc::clone(&observers.get_or_insert_default().stopped))
            }
            Keeping::Lost | Keeping::Dropped => None,
        };
        if let Some(stopped) = stopped {
            let mut stopped = std::pin::pin!(stopped.notified());
            // Enabled before the state is read again, so that no notification is missed.
            stopped.as_mut().enable();
            let is_alive = matches!(self.0.state.lock().keeping, Keeping::Alive(_));
            if is_alive {
                stopped.await;
            }
        }
        let end = self.0.state.lock().end.clone();
        end.unwrap_or_else(|| holder_dropped(self.0.lease))
    }
}

fn holder_dropped(lease: LeaseId) -> Error {
    Error::new(ErrorKind::Closed, "its holder stopped keeping it alive")
        .operation(Operation::about("keep alive lease", lease))
}

/// A lease whose renewals a test makes.
#[cfg(test)]
pub(crate) struct RenewedLease(LeaseStatusWriter, LeaseStatus);

#[cfg(test)]
impl RenewedLease {
    #[allow(clippy::unwrap_used, reason = "a test")]
    pub(crate) fn new() -> Self {
        let (writer, status) = lease_status(LeaseId::new(7).unwrap());
        RenewedLease(writer, status)
    }

    pub(crate) fn waiter(&self) -> LeaseWaiter {
        self.1.waiter()
    }

    /// Renews the lease, which lives this long from now on.
    pub(crate) fn renewed(&self, remaining: Duration, ttl: Duration) {
        let until = crate::runtime::clock::now() + remaining;
        let renewal = Renewal::new(self.1.shared.lease, ttl, until);
        self.0.renewed(&renewal);
    }
}

#[cfg(test)]
mod tests;

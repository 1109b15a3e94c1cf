//! The reply of a submitted request.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Operation, Result};
use crate::util::sync::OnceLock;

/// The reply of a request that was sent with [`Client::submit`](crate::Client::submit).
///
/// The request runs even if no thread waits for it, with the client's deadline. Dropping a
/// `Pending` does not cancel the request.
///
/// ```no_run
/// use etcd_blocking::{Client, Put};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// // A thousand puts in flight from one thread.
/// let pending: Vec<_> = (0..1000).map(|n| client.submit(Put::new(format!("k{n}"), "v"))).collect();
/// for put in pending {
///     put.wait()?;
/// }
/// # Ok(()) }
/// ```
#[must_use = "the result of the request arrives here"]
pub struct Pending<T> {
    slot: Arc<Slot<T>>,
    receiver: OnceLock<Receiver<Result<T>>>,
    driver: Option<Arc<dyn DriveWhileWaiting>>,
}

/// Lets a waiting thread drive the runtime.
pub(super) trait DriveWhileWaiting: Send + Sync {
    /// Waits until `ready`, driving the runtime if it has no other driver, then calls `block`,
    /// which waits for the rest. Returns `false` in a forked child, where the reply can never
    /// arrive.
    fn wait(
        &self,
        ready: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>,
        block: &mut dyn FnMut(),
    ) -> bool;
}

/// The context for the error of a request that ended without a result: the error of a dropped task
/// has the same context as that of the task.
#[derive(Clone, Debug, Default)]
pub(crate) struct LostRequest {
    pub(crate) operation: Option<Operation>,
    /// Whether the request may have been executed once it has started.
    pub(crate) outcome_unknown: bool,
}

impl LostRequest {
    /// Completes the error of a request that never started.
    pub(super) fn not_started(&self, error: Error) -> Error {
        match &self.operation {
            Some(operation) => error.or_operation(operation),
            None => error,
        }
    }

    /// Completes the error of a request that started but did not end.
    pub(super) fn unfinished(&self, error: Error) -> Error {
        self.not_started(error)
            .unknown_outcome(self.outcome_unknown)
    }
}

/// The replying end. Dropped without a reply, it replies with an error: the task panicked, or the
/// runtime shut down.
#[derive(Debug)]
pub(crate) struct Promise<T> {
    slot: Option<Arc<Slot<T>>>,
    lost: LostRequest,
}

/// A condition variable is cheaper than a channel, which spins before it parks. A channel is
/// created only for `select!`.
#[derive(Debug)]
struct Slot<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Waiting,
    /// The reader polls with this waker.
    Polled(Waker),
    Ready(Result<T>),
    Taken,
    Channel(Sender<Result<T>>),
}

pub(super) fn pending<T>(
    lost: LostRequest,
    driver: Option<Arc<dyn DriveWhileWaiting>>,
) -> (Promise<T>, Pending<T>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(State::Waiting),
        filled: Condvar::new(),
    });
    (
        Promise {
            slot: Some(Arc::clone(&slot)),
            lost,
        },
        Pending {
            slot,
            receiver: OnceLock::new(),
            driver,
        },
    )
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl<T> Pending<T> {
    /// Blocks until the reply arrives, at the latest at the deadline of the request.
    ///
    /// # Errors
    ///
    /// The error of the request; [`Closed`](crate::ErrorKind::Closed) when the client was closed
    /// meanwhile, or when the reply was already taken.
    pub fn wait(self) -> Result<T> {
        if let (Some(driver), None) = (&self.driver, self.receiver.get())
            && self.slot.is_waiting()
        {
            let mut reply = None;
            let here = driver.wait(&mut |cx| self.slot.poll(cx), &mut || {
                reply = self.wait_until(None);
            });
            return match reply {
                Some(reply) => reply,
                None if here => Err(Error::closed()),
                None => Err(Error::forked()),
            };
        }
        self.wait_until(None)
            .unwrap_or_else(|| Err(Error::closed()))
    }

    /// Blocks until the reply arrives, for at most `timeout`. Returns `None` after that time; it
    /// can be called again.
    ///
    /// # Errors
    ///
    /// As [`wait`](Pending::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T>> {
        // A deadline that an `Instant` cannot represent is no limit.
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Returns the reply if it has arrived. Does not block.
    ///
    /// # Errors
    ///
    /// As [`wait`](Pending::wait).
    pub fn try_wait(&self) -> Option<Result<T>> {
        if let Some(receiver) = self.receiver.get() {
            // `recv_deadline` with a past deadline spins and yields before it returns.
            return match receiver.try_recv() {
                Ok(reply) => Some(reply),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Err(Error::closed())),
            };
        }
        self.slot.state.lock().take()
    }

    /// Wakes the waker once: now, if the reply has arrived, or else when it does. A reader that selects on the
    /// [`receiver`](Pending::receiver) needs no waker.
    pub(crate) fn wake_when_ready(&self, waker: &Waker) {
        if self.slot.poll(&mut Context::from_waker(waker)).is_ready() {
            waker.wake_by_ref();
        }
    }

    /// The channel on which the reply arrives, for `select!`. It carries exactly one item.
    pub fn receiver(&self) -> &Receiver<Result<T>> {
        self.receiver.get_or_init(|| {
            let (sender, receiver) = bounded(1);
            let mut state = self.slot.state.lock();
            match std::mem::replace(&mut *state, State::Taken) {
                State::Waiting | State::Polled(_) => *state = State::Channel(sender),
                // The channel has room for the only reply.
                State::Ready(reply) => drop(sender.try_send(reply)),
                State::Taken | State::Channel(_) => {}
            }
            drop(state);
            // Threads that wait for the reply continue on the channel.
            self.slot.filled.notify_all();
            receiver
        })
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Option<Result<T>> {
        let mut state = self.slot.state.lock();
        loop {
            if self.receiver.get().is_some() || matches!(*state, State::Channel(_)) {
                drop(state);
                return self.wait_on_channel(deadline);
            }
            if let Some(reply) = state.take() {
                return Some(reply);
            }
            match deadline {
                None => self.slot.filled.wait(&mut state),
                Some(deadline) => {
                    let late = self
                        .slot
                        .filled
                        .wait_until(&mut state, deadline)
                        .timed_out();
                    if late && state.is_waiting() {
                        return None;
                    }
                }
            }
        }
    }

    fn wait_on_channel(&self, deadline: Option<Instant>) -> Option<Result<T>> {
        // It exists, or another thread is about to store it.
        let receiver = self.receiver();
        let received = match deadline {
            Some(deadline) => receiver
                .recv_deadline(deadline)
                .map_err(|error| error.is_timeout()),
            None => receiver.recv().map_err(|_| false),
        };
        match received {
            Ok(reply) => Some(reply),
            Err(true) => None,
            Err(false) => Some(Err(Error::closed())),
        }
    }
}

impl<T> State<T> {
    /// Whether the reply has neither arrived nor goes into a channel.
    fn is_waiting(&self) -> bool {
        matches!(self, State::Waiting | State::Polled(_))
    }

    /// Takes the reply if it has arrived; `Closed` when it was taken before.
    fn take(&mut self) -> Option<Result<T>> {
        match std::mem::replace(self, State::Taken) {
            State::Ready(reply) => Some(reply),
            State::Taken => Some(Err(Error::closed())),
            waiting => {
                *self = waiting;
                None
            }
        }
    }
}

impl<T> Slot<T> {
    fn is_waiting(&self) -> bool {
        matches!(*self.state.lock(), State::Waiting)
    }

    /// Ready when the reply has arrived; otherwise registers the waker.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        match &*state {
            State::Waiting | State::Polled(_) => {
                *state = State::Polled(cx.waker().clone());
                Poll::Pending
            }
            State::Ready(_) | State::Taken | State::Channel(_) => Poll::Ready(()),
        }
    }
}

impl<T> Promise<T> {
    pub(crate) fn keep(mut self, reply: Result<T>) {
        self.fill(reply);
    }

    fn fill(&mut self, reply: Result<T>) {
        let Some(slot) = self.slot.take() else { return };
        let mut state = slot.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            // The sender is dropped with it, so the channel ends after its only item.
            State::Channel(sender) => drop(sender.try_send(reply)),
            State::Polled(waker) => {
                *state = State::Ready(reply);
                drop(state);
                waker.wake();
                // A thread whose drive was cut short waits on the condition variable.
                slot.filled.notify_all();
            }
            _ => {
                *state = State::Ready(reply);
                drop(state);
                // One thread gets the reply; others that wait learn that it was taken.
                slot.filled.notify_all();
            }
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let error = self.lost.unfinished(Error::abandoned());
        self.fill(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_can_be_taken_once_in_any_way() {
        let (promise, reply) = pending(LostRequest::default(), None);
        assert!(reply.try_wait().is_none());
        promise.keep(Ok(1));
        assert_eq!(reply.wait_timeout(Duration::MAX).unwrap().unwrap(), 1);
        assert!(reply.wait().is_err());

        let (promise, reply) = pending(LostRequest::default(), None);
        let receiver = reply.receiver().clone();
        promise.keep(Ok(2));
        assert_eq!(receiver.recv().unwrap().unwrap(), 2);
        assert!(receiver.recv().is_err());

        let (promise, reply) = pending(LostRequest::default(), None);
        promise.keep(Ok(3));
        assert_eq!(reply.receiver().len(), 1);
        assert_eq!(reply.wait().unwrap(), 3);
    }

    /// A thread waits for the reply without driving; the reply is sent when it surely waits.
    fn waits_until_filled(polled: bool) {
        const LONG: Duration = Duration::from_secs(30);
        let (promise, reply) = pending(LostRequest::default(), None);
        if polled {
            // The state after a drive was cut short.
            let mut cx = Context::from_waker(Waker::noop());
            assert!(reply.slot.poll(&mut cx).is_pending());
        }
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let begun = Instant::now();
                (reply.wait_timeout(LONG), begun.elapsed())
            });
            // A waiter that starts later finds the reply, and proves nothing.
            std::thread::sleep(Duration::from_millis(200));
            promise.keep(Ok(1));
            let (reply, waited) = waiting.join().unwrap();
            assert_eq!(reply.unwrap().unwrap(), 1);
            assert!(waited < LONG / 2, "nobody woke it: {waited:?}");
        });
    }

    // Fault: M1
    #[test]
    fn a_reply_wakes_a_waiting_thread() {
        waits_until_filled(false);
    }

    // Fault: M1
    #[test]
    fn a_reply_wakes_a_thread_that_stopped_driving() {
        waits_until_filled(true);
    }

    /// Two threads wait for a reply. One of them gets it, and the other learns that it was taken. The pause lets both
    /// wait before it is sent; `tests/models` tries every order.
    fn both_return(channel: bool) {
        const LONG: Duration = Duration::from_secs(30);
        let (promise, reply) = pending(LostRequest::default(), None);
        std::thread::scope(|scope| {
            let begun = Instant::now();
            let waiting = [(); 2].map(|()| scope.spawn(|| reply.wait_timeout(LONG)));
            std::thread::sleep(Duration::from_millis(200));
            if channel {
                reply.receiver();
            }
            promise.keep(Ok(1));
            let replies = waiting.map(|thread| thread.join().unwrap().unwrap());
            assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 1);
            let waited = begun.elapsed();
            assert!(waited < LONG / 2, "nobody woke one of them: {waited:?}");
        });
    }

    #[test]
    fn threads_that_share_a_reply_all_return() {
        both_return(false);
    }

    #[test]
    fn threads_that_wait_return_when_the_channel_is_requested() {
        both_return(true);
    }

    #[test]
    fn a_dropped_promise_returns_the_reason() {
        let (promise, reply) = pending::<()>(LostRequest::default(), None);
        drop(promise);
        assert_eq!(reply.wait().unwrap_err().kind(), crate::ErrorKind::Closed);

        let (promise, reply) = pending::<()>(LostRequest::default(), None);
        let panicked = std::thread::spawn(move || {
            let _promise = promise;
            panic!("as a task would");
        });
        assert!(panicked.join().is_err());
        assert_eq!(reply.wait().unwrap_err().kind(), crate::ErrorKind::Panicked);
    }
}

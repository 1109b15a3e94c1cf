//! A reply on its way, and the place where it arrives.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Operation, Result};

/// The reply to a request that was handed over with [`Client::submit`](crate::Client::submit).
///
/// The request runs whether or not anyone waits; its deadline is the client's. Dropping a `Pending`
/// does not take the request back.
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
#[must_use = "the reply, and so whether it worked, arrives here"]
pub struct Pending<T> {
    slot: Arc<Slot<T>>,
    receiver: OnceLock<Receiver<Result<T>>>,
    driver: Option<Arc<dyn DriveWhileWaiting>>,
}

/// What a thread that waits can do meanwhile: drive the runtime itself.
pub(super) trait DriveWhileWaiting: Send + Sync {
    /// Waits, driving if that is this thread's turn, until `ready`, and calls `block`, which waits
    /// for what is not ready yet. `false` when it can never be: this is a forked child.
    fn wait(
        &self,
        ready: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>,
        block: &mut dyn FnMut(),
    ) -> bool;
}

/// What to add to the error of a request that ended without a result: what its task knew, its owner
/// knows too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lost {
    pub(crate) operation: Option<Operation>,
    /// Once it has begun, it may have been executed.
    pub(crate) in_doubt: bool,
}

impl Lost {
    /// Completes the error of a request that never began.
    pub(super) fn at_the_door(&self, error: Error) -> Error {
        match &self.operation {
            Some(operation) => error.or_operation(operation),
            None => error,
        }
    }

    /// Completes the error of a request that began and did not end.
    pub(super) fn under_way(&self, error: Error) -> Error {
        self.at_the_door(error).unknown_outcome(self.in_doubt)
    }
}

/// The replying end. Dropped without a reply, it says why: the task panicked, or the runtime shut
/// down.
#[derive(Debug)]
pub(crate) struct Promise<T> {
    slot: Option<Arc<Slot<T>>>,
    lost: Lost,
}

/// A condition variable is cheaper than a channel, which spins before it parks; a channel is made
/// only for those who want to `select!`.
#[derive(Debug)]
struct Slot<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Waiting,
    /// The reader polls.
    Polled(Waker),
    Ready(Result<T>),
    Taken,
    Channel(Sender<Result<T>>),
}

pub(super) fn pending<T>(
    lost: Lost,
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
    /// Blocks until the reply is there: at the latest at the request's own deadline.
    ///
    /// # Errors
    ///
    /// What the request failed with; [`Closed`](crate::ErrorKind::Closed) when the client was closed
    /// meanwhile, or when the reply was taken already.
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

    /// Waits at most this long; `None` when the reply is not there by then. It can be asked again.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T>> {
        // A time too far off to name is no limit.
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// The reply, if it is there.
    pub fn try_wait(&self) -> Option<Result<T>> {
        if let Some(receiver) = self.receiver.get() {
            // A receive with a deadline that has passed spins and yields before it gives up.
            return match receiver.try_recv() {
                Ok(reply) => Some(reply),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Err(Error::closed())),
            };
        }
        self.slot.state.lock().take()
    }

    /// The channel that the reply arrives on, for `select!`. It carries exactly one item.
    pub fn receiver(&self) -> &Receiver<Result<T>> {
        self.receiver.get_or_init(|| {
            let (sender, receiver) = bounded(1);
            let mut state = self.slot.state.lock();
            match std::mem::replace(&mut *state, State::Taken) {
                State::Waiting | State::Polled(_) => *state = State::Channel(sender),
                // One slot, one reply: it has room.
                State::Ready(reply) => drop(sender.try_send(reply)),
                State::Taken | State::Channel(_) => {}
            }
            receiver
        })
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Option<Result<T>> {
        if let Some(receiver) = self.receiver.get() {
            let received = match deadline {
                Some(deadline) => receiver
                    .recv_deadline(deadline)
                    .map_err(|error| error.is_timeout()),
                None => receiver.recv().map_err(|_| false),
            };
            return match received {
                Ok(reply) => Some(reply),
                Err(true) => None,
                Err(false) => Some(Err(Error::closed())),
            };
        }
        let mut state = self.slot.state.lock();
        loop {
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
                    if late && !matches!(*state, State::Ready(_)) {
                        return None;
                    }
                }
            }
        }
    }
}

impl<T> State<T> {
    /// The reply if it is there; `Closed` when it was taken before.
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

    /// Ready when the reply is there; wakes whoever polls when it comes.
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
            // With the sender goes the channel's last end here: it carries one item, then ends.
            State::Channel(sender) => drop(sender.try_send(reply)),
            State::Polled(waker) => {
                *state = State::Ready(reply);
                drop(state);
                waker.wake();
                // A drive that was cut short leaves its thread waiting here.
                slot.filled.notify_one();
            }
            _ => {
                *state = State::Ready(reply);
                drop(state);
                slot.filled.notify_one();
            }
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let error = self.lost.under_way(Error::abandoned());
        self.fill(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_there_once_however_it_is_asked_for() {
        let (promise, reply) = pending(Lost::default(), None);
        assert!(reply.try_wait().is_none());
        promise.keep(Ok(1));
        assert_eq!(reply.wait_timeout(Duration::MAX).unwrap().unwrap(), 1);
        assert!(reply.wait().is_err());

        let (promise, reply) = pending(Lost::default(), None);
        let receiver = reply.receiver().clone();
        promise.keep(Ok(2));
        assert_eq!(receiver.recv().unwrap().unwrap(), 2);
        assert!(receiver.recv().is_err());

        let (promise, reply) = pending(Lost::default(), None);
        promise.keep(Ok(3));
        assert_eq!(reply.receiver().len(), 1);
        assert_eq!(reply.wait().unwrap(), 3);
    }

    /// A thread that waits for the reply without driving; `reply` comes when it surely waits.
    fn waits_until_filled(polled: bool) {
        const LONG: Duration = Duration::from_secs(30);
        let (promise, reply) = pending(Lost::default(), None);
        if polled {
            // As a caller leaves it whose drive was cut short.
            let mut cx = Context::from_waker(Waker::noop());
            assert!(reply.slot.poll(&mut cx).is_pending());
        }
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let begun = Instant::now();
                (reply.wait_timeout(LONG), begun.elapsed())
            });
            // A waiter that comes later finds the reply there, and proves nothing.
            std::thread::sleep(Duration::from_millis(200));
            promise.keep(Ok(1));
            let (reply, waited) = waiting.join().unwrap();
            assert_eq!(reply.unwrap().unwrap(), 1);
            assert!(waited < LONG / 2, "nobody woke it: {waited:?}");
        });
    }

    // Fault: M1
    #[test]
    fn a_thread_that_waits_is_woken_by_the_reply() {
        waits_until_filled(false);
    }

    // Fault: M1
    #[test]
    fn a_thread_that_stopped_driving_is_woken_by_the_reply() {
        waits_until_filled(true);
    }

    #[test]
    fn a_promise_that_is_dropped_says_why() {
        let (promise, reply) = pending::<()>(Lost::default(), None);
        drop(promise);
        assert_eq!(reply.wait().unwrap_err().kind(), crate::ErrorKind::Closed);

        let (promise, reply) = pending::<()>(Lost::default(), None);
        let panicked = std::thread::spawn(move || {
            let _promise = promise;
            panic!("as a task would");
        });
        assert!(panicked.join().is_err());
        assert_eq!(reply.wait().unwrap_err().kind(), crate::ErrorKind::Panicked);
    }
}

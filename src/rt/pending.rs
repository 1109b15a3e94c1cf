//! A reply that is on its way.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use crate::error::{Error, Result};

/// The reply to a request that was handed over with [`Client::submit`](crate::Client::submit).
///
/// The request runs whether or not anyone waits; its deadline is the client's. Dropping a `Pending`
/// does not take the request back.
///
/// ```no_run
/// use etcd_blocking::{Client, Get, Put};
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
#[derive(Debug)]
#[must_use = "the reply, and so whether it worked, arrives here"]
pub struct Pending<T> {
    receiver: Receiver<Result<T>>,
}

impl<T> Pending<T> {
    /// Blocks until the reply is there: at the latest at the request's own deadline.
    ///
    /// # Errors
    ///
    /// What the request failed with; [`Closed`](crate::ErrorKind::Closed) when the client was closed
    /// meanwhile, or when the reply was taken already.
    pub fn wait(self) -> Result<T> {
        self.receiver
            .recv()
            .unwrap_or_else(|_| Err(Error::closed()))
    }

    /// Waits at most this long; `None` when the reply is not there by then. It can be asked again.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T>> {
        match self.receiver.recv_timeout(timeout) {
            Ok(reply) => Some(reply),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(Error::closed())),
        }
    }

    /// The reply, if it is there.
    pub fn try_wait(&self) -> Option<Result<T>> {
        match self.receiver.try_recv() {
            Ok(reply) => Some(reply),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Error::closed())),
        }
    }

    /// The channel that the reply arrives on, for `select!`. It carries exactly one item.
    pub fn receiver(&self) -> &Receiver<Result<T>> {
        &self.receiver
    }
}

/// The replying end. Dropped without a reply, it says why: the task panicked, or the
/// runtime shut down.
#[derive(Debug)]
pub(crate) struct Promise<T>(Option<Sender<Result<T>>>);

pub(crate) fn pending<T>() -> (Promise<T>, Pending<T>) {
    let (sender, receiver) = bounded(1);
    (Promise(Some(sender)), Pending { receiver })
}

impl<T> Promise<T> {
    pub(crate) fn keep(mut self, reply: Result<T>) {
        self.send(reply);
    }

    fn send(&mut self, reply: Result<T>) {
        if let Some(sender) = self.0.take() {
            // One slot, one reply: only a reader that is gone can refuse it.
            let _ = sender.try_send(reply);
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.send(Err(Error::abandoned()));
    }
}

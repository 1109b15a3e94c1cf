//! Where one blocked caller waits for one reply.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

#[derive(Debug)]
struct Slot<T> {
    reply: Mutex<Option<Result<T>>>,
    filled: Condvar,
}

/// The waiting end.
#[derive(Debug)]
pub(crate) struct Waiting<T>(Arc<Slot<T>>);

/// The replying end. Dropped without a reply, it says why: the task panicked, or the
/// runtime shut down.
#[derive(Debug)]
pub(crate) struct Reply<T>(Option<Arc<Slot<T>>>);

pub(crate) fn slot<T>() -> (Reply<T>, Waiting<T>) {
    let slot = Arc::new(Slot {
        reply: Mutex::new(None),
        filled: Condvar::new(),
    });
    (Reply(Some(Arc::clone(&slot))), Waiting(slot))
}

impl<T> Waiting<T> {
    /// Blocks until the reply is there.
    pub(crate) fn wait(self) -> Result<T> {
        let mut reply = self.0.reply.lock();
        loop {
            match reply.take() {
                Some(reply) => return reply,
                None => self.0.filled.wait(&mut reply),
            }
        }
    }
}

impl<T> Reply<T> {
    pub(crate) fn send(mut self, reply: Result<T>) {
        self.fill(reply);
    }

    fn fill(&mut self, reply: Result<T>) {
        if let Some(slot) = self.0.take() {
            *slot.reply.lock() = Some(reply);
            slot.filled.notify_one();
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.fill(Err(Error::abandoned()));
    }
}

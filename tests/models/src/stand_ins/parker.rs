//! Parks one thread: `thread::park`, and the waker of a thread that waits for a future.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::{Condvar, Mutex};

/// The token of a thread.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    token: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    pub(crate) fn park(&self) {
        let mut token = self.token.lock();
        while !std::mem::take(&mut *token) {
            self.changed.wait(&mut token);
        }
    }

    /// Takes the token, if there is one.
    pub(crate) fn take(&self) {
        *self.token.lock() = false;
    }

    pub(crate) fn unpark(&self) {
        *self.token.lock() = true;
        self.changed.notify_one();
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }
}

/// Waits for a future on this thread, outside of every runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => parker.park(),
        }
    }
}

//! The threads of std.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::Timeouts;
use crate::parker::Parker;

loom::thread_local!(static PARKER: Arc<Parker> = Arc::default());

/// The stack of a thread: more than the frames of a model need.
const STACK: usize = 256 << 10;

#[derive(Debug, Default)]
pub struct Builder;

#[derive(Clone, Debug)]
pub struct Thread(Arc<Parker>);

#[derive(Debug)]
pub struct JoinHandle<T>(loom::thread::JoinHandle<T>);

impl Builder {
    pub fn new() -> Self {
        Builder
    }

    #[must_use]
    pub fn name(self, _: String) -> Self {
        self
    }

    #[must_use]
    pub fn stack_size(self, _: usize) -> Self {
        self
    }

    pub fn spawn<T: Send + 'static>(
        self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let builder = loom::thread::Builder::new().stack_size(STACK);
        builder.spawn(run).map(JoinHandle)
    }
}

impl<T> JoinHandle<T> {
    pub fn join(self) -> std::thread::Result<T> {
        self.0.join()
    }
}

impl Thread {
    pub fn unpark(&self) {
        self.0.unpark();
    }
}

pub fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder.spawn(run).expect("loom starts every thread")
}

pub fn yield_now() {
    loom::thread::yield_now();
}

pub fn current() -> Thread {
    Thread(PARKER.with(Arc::clone))
}

pub fn park_timeout(_: Duration) {
    let parker = PARKER.with(Arc::clone);
    match Timeouts::now() {
        Timeouts::Never => parker.park(),
        Timeouts::AtOnce => {
            loom::thread::yield_now();
            parker.take();
        }
    }
}

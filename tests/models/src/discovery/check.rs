//! The thread of a health check that is a closure.

#[path = "../../../../src/discovery/check/closure_thread.rs"]
mod closure_thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use stand_ins::{block_on, bounded};

use self::closure_thread::ClosureThread;
use crate::harness::Model;

pub(super) const MODELS: &[Model] = &[Model::interrupted(
    "check: two calls and the end of a closure",
    3,
    calls,
)];

/// Each call is run once, its result wakes who waits, and the thread ends with its owner.
fn calls() {
    let count = Arc::new(AtomicUsize::new(0));
    let (alive, ended) = bounded::<()>(0);
    let counted = Arc::clone(&count);
    let closure = move || {
        let _ = &alive;
        counted.fetch_add(1, Relaxed);
        Ok(())
    };
    let thread = ClosureThread::start(Box::new(closure)).unwrap();
    for number in [1, 2] {
        assert!(thread.call(number));
        let result = block_on(std::future::poll_fn(|cx| match thread.take_result() {
            Some(result) => Poll::Ready(result),
            None => {
                thread.wake_at_result(cx.waker());
                Poll::Pending
            }
        }));
        assert_eq!(result, (number, Ok(())));
    }
    drop(thread);
    assert!(ended.recv().is_err());
    assert_eq!(count.load(Relaxed), 2);
}

//! The thread of a check that is a closure.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use crossbeam_channel::{Sender, TrySendError, bounded};
use parking_lot::Mutex;

use crate::util::sync::thread;

/// The closure of a check.
pub(crate) type CheckClosure = dyn FnMut() -> Result<(), String> + Send;

/// Runs the closure of one check, one call at a time, on a thread of its own: a closure that hangs
/// blocks nothing else. The thread ends after the call that runs when this value is dropped.
pub(crate) struct ClosureThread {
    calls: Sender<u64>,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Default)]
struct Outcome {
    /// A call was requested, and has not ended.
    is_running: bool,
    result: Option<(u64, Result<(), String>)>,
    waker: Option<Waker>,
}

impl ClosureThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Fails when the operating system starts no thread.
    pub(crate) fn start(mut closure: Box<CheckClosure>) -> std::io::Result<Self> {
        let (calls, requests) = bounded(1);
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let report = Arc::clone(&outcome);
        thread::Builder::new()
            .name("etcd-check".into())
            .spawn(move || {
                for number in requests {
                    let called = catch_unwind(AssertUnwindSafe(&mut closure));
                    let result = called.unwrap_or_else(|panic| Err(panic_text(&*panic)));
                    let mut outcome = report.lock();
                    outcome.is_running = false;
                    outcome.result = Some((number, result));
                    let waker = outcome.waker.take();
                    drop(outcome);
                    waker.into_iter().for_each(Waker::wake);
                }
            })?;
        Ok(ClosureThread { calls, outcome })
    }

    /// Begins the call with this number. Returns `false` while an earlier call runs.
    pub(crate) fn call(&self, number: u64) -> bool {
        let mut outcome = self.outcome.lock();
        if outcome.is_running {
            return false;
        }
        outcome.is_running = match self.calls.try_send(number) {
            Ok(()) => true,
            // The thread takes every call before the next one is requested, and ends after `self`.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        outcome.is_running
    }

    /// Returns the number and the result of the last call, once.
    pub(crate) fn take_result(&self) -> Option<(u64, Result<(), String>)> {
        self.outcome.lock().result.take()
    }

    /// Wakes the waker when a call ends, or now if its result has not been taken.
    pub(crate) fn wake_at_result(&self, waker: &Waker) {
        let mut outcome = self.outcome.lock();
        outcome.waker = Some(waker.clone());
        let is_due = outcome.result.is_some();
        drop(outcome);
        if is_due {
            waker.wake_by_ref();
        }
    }
}

impl std::fmt::Debug for ClosureThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClosureThread")
            .field("is_running", &self.outcome.lock().is_running)
            .finish_non_exhaustive()
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    match text {
        Some(text) => format!("the check panicked: {text}"),
        None => "the check panicked".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;

    fn result(thread: &ClosureThread) -> (u64, Result<(), String>) {
        let begun = Instant::now();
        loop {
            if let Some(result) = thread.take_result() {
                return result;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no result");
            std::thread::yield_now();
        }
    }

    // Fault: F38
    #[test]
    fn calls_run_one_at_a_time_and_a_panic_is_a_failure() {
        let (go, gate) = mpsc::channel::<Result<(), String>>();
        let thread = ClosureThread::start(Box::new(move || match gate.recv() {
            Ok(result) => result,
            Err(_) => panic!("on {}", "purpose"),
        }))
        .unwrap();
        assert!(thread.call(1));
        assert!(!thread.call(2), "the first one runs");
        go.send(Ok(())).unwrap();
        assert_eq!(result(&thread), (1, Ok(())));
        assert!(thread.call(3));
        drop(go);
        let panicked = Err("the check panicked: on purpose".to_owned());
        assert_eq!(result(&thread), (3, panicked.clone()));
        assert!(thread.call(4), "the thread goes on after a panic");
        assert_eq!(result(&thread), (4, panicked));
    }

    #[test]
    fn the_thread_ends_after_its_owner_was_dropped() {
        let (alive, ended) = mpsc::channel::<()>();
        let thread = ClosureThread::start(Box::new(move || {
            let _ = &alive;
            Ok(())
        }));
        drop(thread.unwrap());
        // Disconnected when the closure was dropped with its thread.
        assert!(matches!(
            ended.recv_timeout(Duration::from_secs(30)),
            Err(mpsc::RecvTimeoutError::Disconnected)
        ));
    }
}

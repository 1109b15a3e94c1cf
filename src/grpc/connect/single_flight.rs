//! Runs blocking work on its own threads, one run at a time for each key.
//!
//! Work that hangs blocks only its own thread: later requests for the same key join it, and other
//! keys have other threads. There are never more threads than keys.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::util::sync::thread;

/// The stack size of a thread. The C library's resolver and its NSS modules keep buffers of up to
/// 64 KiB on the stack.
const STACK: usize = 512 << 10;

/// The runs that are under way.
pub(crate) struct SingleFlight<K: Eq + Hash, T> {
    thread: &'static str,
    under_way: Mutex<HashMap<K, watch::Receiver<Option<T>>>>,
}

impl<K, T> SingleFlight<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Creates an empty set. `thread` is the name of its threads.
    pub(crate) fn new(thread: &'static str) -> Arc<Self> {
        Arc::new(SingleFlight {
            thread,
            under_way: Mutex::default(),
        })
    }

    /// Returns the result for `key`: of the run that is under way, or else of `work`.
    ///
    /// # Errors
    ///
    /// Fails when the thread cannot be started, or when the work panics.
    pub(crate) async fn run(
        self: &Arc<Self>,
        key: K,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let mut result = self.join_or_start(key, work)?;
        match result.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(result)) => Ok(result.clone()),
            _ => Err(io::Error::other(format!("{} panicked", self.thread))),
        }
    }

    fn join_or_start(
        self: &Arc<Self>,
        key: K,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<watch::Receiver<Option<T>>> {
        let mut under_way = self.under_way.lock();
        if let Some(result) = under_way.get(&key) {
            return Ok(result.clone());
        }
        let (sender, result) = watch::channel(None);
        under_way.insert(key.clone(), result.clone());
        drop(under_way);
        // Dropped with the closure when the thread cannot be started.
        let entry = Entry {
            flights: Arc::clone(self),
            key,
        };
        let worker = move || {
            let result = work();
            // From here on, a request for this key starts a new run.
            drop(entry);
            sender.send_replace(Some(result));
        };
        thread::Builder::new()
            .name(self.thread.to_owned())
            .stack_size(STACK)
            .spawn(worker)?;
        Ok(result)
    }
}

impl<K: Eq + Hash, T> fmt::Debug for SingleFlight<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("thread", &self.thread)
            .field("under_way", &self.under_way.lock().len())
            .finish()
    }
}

/// The map entry of one run. Its drop removes the entry, also when the work panics.
struct Entry<K: Eq + Hash, T> {
    flights: Arc<SingleFlight<K, T>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Entry<K, T> {
    fn drop(&mut self) {
        self.flights.under_way.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn work_that_hangs_is_shared_and_does_not_block_other_keys() {
        let flights = SingleFlight::new("test");
        let (go, gate) = mpsc::channel::<()>();
        let started = Arc::new(AtomicUsize::new(0));
        let first = Arc::clone(&started);
        let hanging = flights.join_or_start("slow", move || {
            first.fetch_add(1, SeqCst);
            gate.recv().ok();
            1
        });
        for _ in 0..10 {
            let again = Arc::clone(&started);
            let work = move || again.fetch_add(1, SeqCst) as i32;
            let joined = flights.join_or_start("slow", work).unwrap();
            assert_eq!(*joined.borrow(), None);
        }
        assert_eq!(run(flights.run("quick", || 2)).unwrap(), 2);
        go.send(()).unwrap();
        let mut hanging = hanging.unwrap();
        let result = run(async { *hanging.wait_for(Option::is_some).await.unwrap() });
        assert_eq!((result, started.load(SeqCst)), (Some(1), 1));
        assert_eq!(run(flights.run("slow", || 3)).unwrap(), 3, "it is over");
    }

    #[test]
    fn work_that_panics_is_an_error_and_the_next_call_starts_again() {
        let flights: Arc<SingleFlight<(), i32>> = SingleFlight::new("test");
        let error = run(flights.run((), || panic!("on purpose"))).unwrap_err();
        assert_eq!(error.to_string(), "test panicked");
        assert_eq!(run(flights.run((), || 1)).unwrap(), 1);
    }
}

//! One thread that serves all registrations and views of a client: an event loop over channels,
//! which uses only the public API of this crate.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, bounded, unbounded};
use parking_lot::Mutex;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};

/// How many items of one channel a part processes before the other parts run, so that a busy
/// channel does not block them.
pub(crate) const AT_ONCE: usize = 256;

/// A state machine that the worker runs.
pub(crate) trait Part: Send {
    /// Does the work that is due, without blocking, and returns when the next work is due. `None`
    /// ends the part.
    fn work(&mut self, now: Instant) -> Option<Next>;

    /// Reports the error to the users of the part, after it panicked.
    fn failed(&mut self, error: &Error);

    /// Adds the channels that the part waits for.
    fn wait<'a>(&'a self, select: &mut Select<'a>);
}

/// When a part has to run again if no item arrives earlier; `None` for no such time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next(pub(crate) Option<Instant>);

/// The worker of a client. It ends when its last handle is dropped and its parts have ended.
#[derive(Debug)]
pub(crate) struct Worker {
    parts: Option<Sender<Box<dyn Part>>>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// How long dropping the last handle waits for the thread.
const END_WITHIN: Duration = Duration::from_secs(1);

impl Worker {
    /// Returns the worker of this client: all its registrars and views share one.
    pub(crate) fn of(client: &Client) -> Result<Arc<Worker>> {
        static WORKERS: LazyLock<Mutex<HashMap<u64, Weak<Worker>>>> = LazyLock::new(Mutex::default);

        let mut workers = WORKERS.lock();
        if let Some(worker) = workers.get(&client.id()).and_then(Weak::upgrade) {
            return Ok(worker);
        }
        workers.retain(|_, worker| worker.strong_count() > 0);
        let worker = Arc::new(Worker::start()?);
        workers.insert(client.id(), Arc::downgrade(&worker));
        Ok(worker)
    }

    fn start() -> Result<Worker> {
        let (parts, queue) = unbounded();
        let (alive, ended) = bounded(0);
        let thread = thread::Builder::new()
            .name("etcd-discovery".into())
            .spawn(move || {
                run(&queue);
                drop(alive);
            })
            .map_err(|error| {
                let reason = format!("cannot start the discovery thread: {error}");
                Error::new(ErrorKind::Os, reason).caused_by(error)
            })?;
        Ok(Worker {
            parts: Some(parts),
            ended,
            thread: Some(thread),
        })
    }

    pub(crate) fn serve(&self, part: Box<dyn Part>) -> Result<()> {
        let parts = self.parts.as_ref().ok_or_else(Error::closed)?;
        parts.send(part).map_err(|_| Error::closed())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.parts = None;
        let ended = self.ended.recv_timeout(END_WITHIN);
        let gone = ended == Err(crossbeam_channel::RecvTimeoutError::Disconnected);
        if let (true, Some(thread)) = (gone, self.thread.take()) {
            // The panic hook has printed the panic.
            let _ = thread.join();
        }
    }
}

fn run(queue: &Receiver<Box<dyn Part>>) {
    let mut parts: Vec<Box<dyn Part>> = Vec::new();
    let mut open = true;
    while open || !parts.is_empty() {
        loop {
            match queue.try_recv() {
                Ok(part) => parts.push(part),
                Err(error) => {
                    open = !error.is_disconnected();
                    break;
                }
            }
        }
        let now = Instant::now();
        let mut due: Option<Instant> = None;
        parts.retain_mut(|part| match work(part.as_mut(), now) {
            Some(Next(next)) => {
                due = due.into_iter().chain(next).min();
                true
            }
            None => false,
        });
        if !open && parts.is_empty() {
            return;
        }
        let mut select = Select::new();
        if open {
            select.recv(queue);
        }
        for part in &parts {
            part.wait(&mut select);
        }
        match due {
            Some(due) => drop(select.ready_deadline(due)),
            None => drop(select.ready()),
        }
    }
}

/// Runs one part. A part that panics ends, and its users get the error; the other parts continue.
fn work(part: &mut dyn Part, now: Instant) -> Option<Next> {
    let worked = catch_unwind(AssertUnwindSafe(|| part.work(now)));
    worked.unwrap_or_else(|_| {
        // The panic hook has printed the panic. If `failed` panics as well, the users of the part
        // notice its drop.
        let told = catch_unwind(AssertUnwindSafe(|| part.failed(&Error::panicked())));
        drop(told);
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics or works on command, and reports what happens.
    struct Probe {
        orders: Receiver<bool>,
        said: Sender<&'static str>,
    }

    impl Part for Probe {
        fn work(&mut self, _: Instant) -> Option<Next> {
            match self.orders.try_recv() {
                Ok(true) => panic!("as it was told"),
                Ok(false) => drop(self.said.send("worked")),
                Err(error) if error.is_disconnected() => return None,
                Err(_) => {}
            }
            Some(Next(None))
        }

        fn failed(&mut self, error: &Error) {
            assert_eq!(error.kind(), ErrorKind::Panicked);
            let _ = self.said.send("failed");
            panic!("again");
        }

        fn wait<'a>(&'a self, select: &mut Select<'a>) {
            select.recv(&self.orders);
        }
    }

    // Fault: Q4
    #[test]
    fn a_part_that_panics_ends_alone_and_says_so() {
        let worker = Worker::start().unwrap();
        let start = || {
            let ((order, orders), (said, heard)) = (unbounded(), unbounded());
            worker.serve(Box::new(Probe { orders, said })).unwrap();
            (order, heard)
        };
        let ((bad, of_bad), (good, of_good)) = (start(), start());
        bad.send(true).unwrap();
        let limit = Duration::from_secs(10);
        assert_eq!(of_bad.recv_timeout(limit), Ok("failed"));
        assert!(of_bad.recv_timeout(limit).is_err(), "it is gone");
        for _ in 0..3 {
            good.send(false).unwrap();
            assert_eq!(of_good.recv_timeout(limit), Ok("worked"));
        }
        let (late, of_late) = start();
        late.send(false).unwrap();
        assert_eq!(of_late.recv_timeout(limit), Ok("worked"));
    }
}

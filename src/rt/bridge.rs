//! From a blocked caller to the runtime and back: the only place where anything waits on it.
//!
//! A current-thread tokio runtime can be driven by one thread at a time, any thread. Usually that
//! is the runtime's own; a lone caller asks it to stand aside and drives itself (see `switch`).
//! While it stands aside it looks back every [`LINGER`], and drives again once no caller does, so
//! watches and leases never wait longer than that.

use std::convert::identity;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, mpsc, watch};

use super::pending::{Lost, Pending, pending};
use super::switch::{Drive, Path, Switch};
use crate::error::{Error, ErrorKind, Result};

#[cfg(test)]
mod tests;

/// How long the runtime thread waits after a caller drove, before it drives again.
const LINGER: Duration = Duration::from_micros(500);

/// The longest that `close` and the last drop wait for the runtime thread.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Name lookups run on threads of their own, and one may hang; so many may at a time.
const LOOKUP_THREADS: usize = 4;

pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a background task can be started.
pub(crate) trait Spawn {
    /// Runs `task` until it ends or the client closes.
    fn spawn(&self, task: Job) -> Result<()>;
}

/// The runtime that the current task runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here;

impl Spawn for Here {
    fn spawn(&self, task: Job) -> Result<()> {
        tokio::spawn(task);
        Ok(())
    }
}

impl Spawn for Bridge {
    fn spawn(&self, task: Job) -> Result<()> {
        self.check_open()?;
        self.push(task)
    }
}

/// A private runtime, and the way in.
#[derive(Debug)]
pub(crate) struct Bridge {
    shared: Arc<Shared>,
    thread: Thread,
    ended: Receiver<()>,
    joined: Mutex<Option<JoinHandle<()>>>,
    process: u32,
}

struct Shared {
    // Taken out by the runtime thread when it ends; callers that still drive hold their own.
    runtime: RwLock<Option<Arc<Driven>>>,
    jobs: mpsc::UnboundedSender<Job>,
    switch: Switch,
    make_way: Notify,
    closed: watch::Sender<bool>,
}

/// A runtime whose drop never blocks: not on a name lookup that hangs, and not in async context,
/// where blocking would panic.
#[derive(Debug)]
struct Driven(Option<Runtime>);

impl Bridge {
    /// Starts the runtime and its thread.
    pub(crate) fn start(name: &str, drive: Drive) -> Result<Self> {
        let refused = |what: &str, error: std::io::Error| {
            Error::new(ErrorKind::Os, format!("cannot start {what}: {error}")).caused_by(error)
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUP_THREADS)
            .thread_name(format!("{name}-dns"))
            .build()
            .map_err(|error| refused("the private runtime", error))?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            runtime: RwLock::new(Some(Arc::new(Driven(Some(runtime))))),
            jobs,
            switch: Switch::new(drive),
            make_way: Notify::new(),
            closed: watch::Sender::new(false),
        });
        let (alive, ended) = bounded(0);
        let inside = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                inside.drive(queue);
                drop(inside);
                drop(alive);
            })
            .map_err(|error| refused("the runtime's thread", error))?;
        Ok(Bridge {
            shared,
            thread: handle.thread().clone(),
            ended,
            joined: Mutex::new(Some(handle)),
            process: std::process::id(),
        })
    }

    /// Runs `future` to its end and returns what it returns. Blocks the caller; the future brings
    /// its own deadline.
    pub(crate) fn call<T, F>(&self, future: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.call_or(identity, future)
    }

    /// The same; `lost` completes the error of a future that began and did not end.
    pub(crate) fn call_or<T, F>(&self, lost: Lost, future: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.check_open()?;
        let alone = self.shared.switch.enter();
        let entered = Entered(&self.shared.switch);
        // Whoever is inside somebody's runtime may not enter ours; it can always wait for a reply.
        let path = match Handle::try_current() {
            Ok(_) => Path::Job,
            Err(_) => self.shared.switch.path(alone),
        };
        if path == Path::Job {
            let (promise, reply) = pending(lost);
            self.push(Box::pin(async move { promise.keep(future.await) }))?;
            return reply.wait();
        }
        let driving = Driving::begin(&self.shared.switch);
        if path == Path::TakeOver {
            self.shared.make_way.notify_one();
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.drive_for(lost, future)));
        drop((driving, entered));
        result.unwrap_or_else(|_| Err(lost(Error::panicked())))
    }

    /// Starts `future` and returns at once; its result arrives in the `Pending`.
    pub(crate) fn submit_or<T, F>(&self, lost: Lost, future: F) -> Pending<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let (promise, reply) = pending(lost);
        if let Err(error) = self.check_open() {
            promise.keep(Err(error));
            return reply;
        }
        self.shared.switch.enter();
        let entered = Departure(Arc::clone(&self.shared));
        // A push that fails drops the job, and with it the promise, which then says `Closed`.
        let _ = self.push(Box::pin(async move {
            let result = future.await;
            drop(entered);
            promise.keep(result);
        }));
        reply
    }

    /// Ends everything: callers that wait return `Closed`, tasks are dropped, the thread is joined.
    ///
    /// Blocks until that is done, at most a second.
    pub(crate) fn close(&self) -> Result<()> {
        self.check_process()?;
        self.shared.closed.send_replace(true);
        self.shared.make_way.notify_one();
        self.thread.unpark();
        // The channel carries nothing: it disconnects when the thread has let go of everything.
        if self.ended.recv_timeout(CLOSE_WITHIN)
            == Err(crossbeam_channel::RecvTimeoutError::Timeout)
        {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the runtime thread did not end in 1s",
            ));
        }
        match self.joined.lock().take().map(JoinHandle::join) {
            Some(Err(_)) => Err(Error::new(
                ErrorKind::Panicked,
                "the runtime thread panicked",
            )),
            _ => Ok(()),
        }
    }

    /// Refuses what cannot work: a closed client, and a forked child.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_process()?;
        if *self.shared.closed.borrow() {
            Err(Error::closed())
        } else {
            Ok(())
        }
    }

    /// Whether this is a copy in a forked child; the original is with the parent.
    pub(crate) fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    fn check_process(&self) -> Result<()> {
        if !self.is_forked() {
            return Ok(());
        }
        let reason = "the process was forked after the client was made, and the client's thread \
                      stayed with the parent: make a new client in the child";
        Err(Error::new(ErrorKind::Forked, reason))
    }

    fn push(&self, job: Job) -> Result<()> {
        self.shared.jobs.send(job).map_err(|_| Error::closed())?;
        if self.shared.switch.is_aside() {
            self.thread.unpark();
        }
        Ok(())
    }

    fn drive_for<T, F>(&self, lost: Lost, future: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let Some(runtime) = self.shared.runtime.read().clone() else {
            return Err(Error::closed());
        };
        let Some(runtime) = &runtime.0 else {
            return Err(Error::closed());
        };
        let mut closed = self.shared.closed.subscribe();
        let until_closed = async {
            let closing = closed.wait_for(|closed| *closed);
            let mut closing = std::pin::pin!(closing);
            let mut call = std::pin::pin!(future);
            std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => closing
                    .as_mut()
                    .poll(cx)
                    .map(|_| Err(lost(Error::closed()))),
            })
            .await
        };
        runtime.block_on(until_closed)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if self.is_forked() {
            // The child of a fork has copies of the runtime's sockets and epoll, but shares what is
            // behind them with its parent: letting go of them here would reach into the parent.
            std::mem::forget(Arc::clone(&self.shared));
            return;
        }
        // A drop has nobody to tell; `close` is the same with an answer.
        let _ = self.close();
    }
}

impl Shared {
    /// The life of the runtime thread.
    fn drive(&self, queue: mpsc::UnboundedReceiver<Job>) {
        let Some(runtime) = self.runtime.read().clone() else {
            return;
        };
        if let Some(runtime) = &runtime.0 {
            runtime.spawn(start_jobs(queue));
            let mut closed = self.closed.subscribe();
            while !*closed.borrow() {
                runtime.block_on(async {
                    let mut way = std::pin::pin!(self.make_way.notified());
                    let mut closing = std::pin::pin!(closed.wait_for(|closed| *closed));
                    std::future::poll_fn(|cx| match way.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(()),
                        Poll::Pending => closing.as_mut().poll(cx).map(|_| ()),
                    })
                    .await;
                });
                self.stand_aside(&closed);
            }
        }
        // Dropping the runtime drops every task, and every task that owes a reply says `Closed`.
        drop(self.runtime.write().take());
        drop(runtime);
    }

    /// Leaves the runtime to callers for as long as they keep coming one by one.
    fn stand_aside(&self, closed: &watch::Receiver<bool>) {
        self.switch.stand_aside(true);
        let mut seen = None;
        while !*closed.borrow() {
            let traffic = self.switch.traffic();
            // Calls that nobody drives are jobs: callers overlap.
            let overlap = traffic.in_flight > traffic.driving;
            let quiet = traffic.driving == 0 && seen == Some(traffic.calls);
            if overlap || quiet {
                break;
            }
            seen = Some(traffic.calls);
            thread::park_timeout(LINGER);
        }
        self.switch.stand_aside(false);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("switch", &self.switch)
            .finish_non_exhaustive()
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts every job as a task, from inside: a wake-up from outside costs a system call, and one is
/// enough for all the jobs that arrive while the runtime is busy.
async fn start_jobs(mut queue: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = queue.recv().await {
        tokio::spawn(job);
    }
}

/// Counts a call out when it ends, however it ends.
struct Entered<'a>(&'a Switch);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Counts a caller that drives.
struct Driving<'a>(&'a Switch);

impl<'a> Driving<'a> {
    fn begin(switch: &'a Switch) -> Self {
        switch.begin_driving();
        Driving(switch)
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.0.end_driving();
    }
}

/// The same as [`Entered`] for a request that nobody waits for in place.
struct Departure(Arc<Shared>);

impl Drop for Departure {
    fn drop(&mut self) {
        self.0.switch.leave();
    }
}

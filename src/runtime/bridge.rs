//! From a blocked caller to the runtime and back: the only place where anything waits on it.
//!
//! A current-thread tokio runtime can be driven by one thread at a time, any thread. Usually that
//! is the runtime's own; a lone caller asks it to stand aside and drives itself (see `switch`).
//! While it stands aside it looks back every [`LINGER`], and drives again once a whole one passed in
//! which no caller did: at most two of them, 1.8 ms, after the last call. Watches and leases, and
//! requests that were submitted and are waited for by `select!`, wait that long at most.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, mpsc, watch};

use super::driver::{DriveMode, Driver, Path};
use super::pending::{DriveWhileWaiting, Lost, Pending, pending};
use crate::error::{Error, ErrorKind, Result};

#[cfg(test)]
mod tests;

/// How often the runtime thread looks whether callers still drive. Looking costs a lone caller 4 % of
/// its CPU time at this rate, and 7 % at 500 us.
const LINGER: Duration = Duration::from_micros(900);

/// The longest that `close` and the last drop wait for the runtime thread.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

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

impl<T: Spawn> Spawn for Arc<T> {
    fn spawn(&self, task: Job) -> Result<()> {
        T::spawn(self, task)
    }
}

/// A private runtime, and the way in.
#[derive(Debug)]
pub(crate) struct Bridge {
    shared: Arc<Shared>,
    ended: Receiver<()>,
    joined: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    // Taken out by the runtime thread when it ends; callers that still drive hold their own.
    runtime: RwLock<Option<Arc<Driven>>>,
    jobs: mpsc::UnboundedSender<Job>,
    switch: Driver,
    make_way: Notify,
    closed: watch::Sender<bool>,
    /// The runtime's own thread, once it runs.
    thread: OnceLock<Thread>,
    process: u32,
}

/// A runtime whose drop never blocks, which in async context would panic.
#[derive(Debug)]
struct Driven(Option<Runtime>);

impl Bridge {
    /// Starts the runtime and its thread.
    pub(crate) fn start(name: &str, drive: DriveMode) -> Result<Self> {
        let refused = |what: &str, error: std::io::Error| {
            Error::new(ErrorKind::Os, format!("cannot start {what}: {error}")).caused_by(error)
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| refused("the private runtime", error))?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            runtime: RwLock::new(Some(Arc::new(Driven(Some(runtime))))),
            jobs,
            switch: Driver::new(drive),
            make_way: Notify::new(),
            closed: watch::Sender::new(false),
            thread: OnceLock::new(),
            process: std::process::id(),
        });
        let (alive, ended) = bounded(0);
        let inside = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                inside.thread.get_or_init(thread::current);
                inside.drive(queue);
                drop(inside);
                drop(alive);
            })
            .map_err(|error| refused("the runtime's thread", error))?;
        Ok(Bridge {
            shared,
            ended,
            joined: Mutex::new(Some(handle)),
        })
    }

    /// Runs `future` to its end and returns what it returns. Blocks the caller; the future brings
    /// its own deadline.
    pub(crate) fn call<T, F>(&self, future: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.call_or(Lost::default(), future)
    }

    /// The same; `lost` completes the error of a future that began and did not end.
    pub(crate) fn call_or<T, F>(&self, lost: Lost, future: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.check_open().map_err(|error| lost.at_the_door(error))?;
        let entered = Entered::new(&self.shared.switch);
        let path = self.shared.path(&entered);
        if path == Path::Job {
            let (promise, reply) = pending(lost, None);
            self.push(Box::pin(async move { promise.keep(future.await) }))?;
            return reply.wait();
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.shared.drive_for(path, future)));
        match result {
            Ok(Some(result)) => result,
            Ok(None) => Err(lost.under_way(Error::closed())),
            Err(_) => Err(lost.under_way(Error::panicked())),
        }
    }

    /// Starts `future` and returns at once; its result arrives in the `Pending`.
    pub(crate) fn submit_or<T, F>(&self, lost: Lost, future: F) -> Pending<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let driver: Arc<dyn DriveWhileWaiting> = Arc::clone(&self.shared) as _;
        let open = self.check_open().map_err(|error| lost.at_the_door(error));
        let (promise, reply) = pending(lost, Some(driver));
        if let Err(error) = open {
            promise.keep(Err(error));
            return reply;
        }
        let job: Job = Box::pin(async move { promise.keep(future.await) });
        // Nobody is woken for it: whoever waits for the reply drives, and when nobody does, the
        // runtime's thread comes back by itself. A send that fails drops the job, and with it the
        // promise, which then says `Closed`.
        let _ = self.shared.jobs.send(job);
        reply
    }

    /// Ends everything: callers that wait return `Closed`, tasks are dropped, the thread is joined.
    ///
    /// Blocks until that is done, at most a second.
    pub(crate) fn close(&self) -> Result<()> {
        self.check_process()?;
        self.shared.closed.send_replace(true);
        self.shared.make_way.notify_one();
        self.shared.unpark();
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
        self.shared.is_forked()
    }

    fn check_process(&self) -> Result<()> {
        if !self.is_forked() {
            return Ok(());
        }
        Err(Error::forked())
    }

    fn push(&self, job: Job) -> Result<()> {
        self.shared.jobs.send(job).map_err(|_| Error::closed())?;
        if self.shared.switch.is_aside() {
            self.shared.unpark();
        }
        Ok(())
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
    fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Whoever is inside somebody's runtime may not enter ours; it can always wait for a reply.
    fn path(&self, entered: &Entered<'_>) -> Path {
        match Handle::try_current() {
            Ok(_) => Path::Job,
            Err(_) => self.switch.path(entered.alone),
        }
    }

    /// Drives the runtime until `future` ends; `None` when the bridge closes before.
    fn drive_for<T>(&self, path: Path, future: impl Future<Output = T>) -> Option<T> {
        let runtime = self.runtime.read().clone()?;
        let runtime = runtime.0.as_ref()?;
        let _driving = Driving::begin(&self.switch);
        if path == Path::TakeOver {
            self.make_way.notify_one();
        }
        let mut closed = self.closed.subscribe();
        runtime.block_on(async {
            let mut closing = std::pin::pin!(closed.wait_for(|closed| *closed));
            let mut call = std::pin::pin!(future);
            std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => closing.as_mut().poll(cx).map(|_| None),
            })
            .await
        })
    }

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
            // Threads that wait and do not drive: callers overlap.
            let overlap = traffic.waiting > traffic.driving;
            let quiet = traffic.driving == 0 && seen == Some(traffic.drives);
            if overlap || quiet {
                break;
            }
            seen = Some(traffic.drives);
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

impl DriveWhileWaiting for Shared {
    fn wait(
        &self,
        ready: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>,
        block: &mut dyn FnMut(),
    ) -> bool {
        if self.is_forked() {
            return false;
        }
        let entered = Entered::new(&self.switch);
        let path = self.path(&entered);
        if path != Path::Job {
            // A panic here would be a bug of this file: what a task panics with stays in the task.
            self.drive_for(path, std::future::poll_fn(ready));
        } else if self.switch.is_aside() {
            self.unpark();
        }
        // At once, when the drive ended with a reply; when it ended because the bridge closes, the
        // reply says so in a moment.
        block();
        true
    }
}

/// Counts a thread that waits, and counts it out when it ends, however it ends.
struct Entered<'a> {
    switch: &'a Driver,
    alone: bool,
}

impl<'a> Entered<'a> {
    fn new(switch: &'a Driver) -> Self {
        Entered {
            switch,
            alone: switch.enter(),
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.switch.leave();
    }
}

/// Counts a caller that drives.
struct Driving<'a>(&'a Driver);

impl<'a> Driving<'a> {
    fn begin(switch: &'a Driver) -> Self {
        switch.begin_driving();
        Driving(switch)
    }
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.0.end_driving();
    }
}

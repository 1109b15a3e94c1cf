//! Connects blocked callers to the runtime: the only place where a thread waits for the runtime.
//!
//! A current-thread tokio runtime can be driven by one thread at a time, and by any thread. Usually
//! its own thread drives it; a lone caller asks that thread to stand aside and drives the runtime
//! itself (see `driver`). While standing aside, the runtime thread checks every [`LINGER`] whether
//! callers still drive, and takes over after one interval without a driver: at most two intervals,
//! 1.8 ms, after the last call. Watches, leases and submitted requests that are awaited through
//! `select!` are delayed by at most that time.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, mpsc, watch};

use super::driver::{DriveMode, Driver, Path};
use super::pending::{DriveWhileWaiting, LostRequest, Pending, pending};
use crate::error::{Error, ErrorKind, Result};
use crate::util::sync::OnceLock;
use crate::util::sync::thread::{self, JoinHandle, Thread};

#[cfg(test)]
mod tests;

/// How often the runtime thread checks whether callers still drive. The checks cost a lone caller 4
/// % of its CPU time at this rate, and 7 % at 500 us.
const LINGER: Duration = Duration::from_micros(900);

/// A task that another thread has woken runs after at most one task that the runtime's own tasks have woken. With tokio's
/// default of 31, a submitted request waits for 30 polls of tasks that always have work, such as a
/// connection and the watch task while events arrive.
const REMOTE_EVERY: u32 = 2;

/// The polls of tasks after which the runtime looks for bytes of sockets, for timers, and for the call of the thread that
/// drives it. With tokio's default of 61, these wait longer while events arrive. A look is one `epoll_wait` that returns
/// at once.
const LOOK_EVERY: u32 = 16;

/// The longest time that `close` and the last drop wait for the runtime thread.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts background tasks.
pub(crate) trait Spawn {
    /// Runs `task` until it ends or the client closes.
    fn spawn(&self, task: Job) -> Result<()>;
}

/// Spawns on the runtime of the current task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CurrentRuntime;

impl Spawn for CurrentRuntime {
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

/// A private runtime with its thread.
#[derive(Debug)]
pub(crate) struct Bridge {
    shared: Arc<Shared>,
    ended: Receiver<()>,
    joined: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    // Taken by the runtime thread when it ends. A caller that is driving holds its own reference.
    runtime: RwLock<Option<Arc<OwnedRuntime>>>,
    jobs: mpsc::UnboundedSender<Job>,
    driver: Driver,
    make_way: Notify,
    closed: watch::Sender<bool>,
    /// The runtime's own thread, set when it starts.
    thread: OnceLock<Thread>,
    process: u32,
}

/// A runtime whose drop never blocks; a blocking drop panics in an async context.
#[derive(Debug)]
struct OwnedRuntime(Option<Runtime>);

impl Bridge {
    /// Starts the runtime and its thread.
    pub(crate) fn start(name: &str, drive: DriveMode) -> Result<Self> {
        let refused = |what: &str, error: std::io::Error| {
            Error::new(ErrorKind::Os, format!("cannot start {what}: {error}")).caused_by(error)
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .global_queue_interval(REMOTE_EVERY)
            .event_interval(LOOK_EVERY)
            .build()
            .map_err(|error| refused("the private runtime", error))?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            runtime: RwLock::new(Some(Arc::new(OwnedRuntime(Some(runtime))))),
            jobs,
            driver: Driver::new(drive),
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

    /// Runs `future` and returns its result. Blocks the caller; the future has its own deadline.
    pub(crate) fn call<T, F>(&self, future: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.call_or(LostRequest::default(), future)
    }

    /// Runs `future` and returns its result. `lost` completes the error of a future that started
    /// but did not end.
    pub(crate) fn call_or<T, F>(&self, lost: LostRequest, future: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.check_open().map_err(|error| lost.not_started(error))?;
        let entered = WaiterGuard::new(&self.shared.driver);
        let path = self.shared.path(&entered);
        if path == Path::Job {
            let (promise, reply) = pending(lost, None);
            self.push(Box::pin(async move { promise.keep(future.await) }))?;
            return reply.wait();
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.shared.drive_for(path, future)));
        match result {
            Ok(Some(result)) => result,
            Ok(None) => Err(lost.unfinished(Error::closed())),
            Err(_) => Err(lost.unfinished(Error::panicked())),
        }
    }

    /// Starts `future` and returns at once. The result arrives in the `Pending`.
    pub(crate) fn submit_or<T, F>(&self, lost: LostRequest, future: F) -> Pending<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let driver: Arc<dyn DriveWhileWaiting> = Arc::clone(&self.shared) as _;
        let open = self.check_open().map_err(|error| lost.not_started(error));
        let (promise, reply) = pending(lost, Some(driver));
        if let Err(error) = open {
            promise.keep(Err(error));
            return reply;
        }
        let job: Job = Box::pin(async move { promise.keep(future.await) });
        // The runtime thread is not woken: a caller that waits for the reply drives the runtime,
        // and otherwise the runtime thread takes over by itself. If the send fails, the job is
        // dropped with its promise, which replies `Closed`.
        let _ = self.shared.jobs.send(job);
        reply
    }

    /// Closes the bridge: waiting callers return `Closed`, tasks are dropped, and the thread is
    /// joined.
    ///
    /// Blocks until that is done, for at most one second.
    pub(crate) fn close(&self) -> Result<()> {
        self.check_process()?;
        self.shared.closed.send_replace(true);
        self.shared.make_way.notify_one();
        self.shared.unpark();
        // No item is ever sent: the channel disconnects when the thread has dropped everything.
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

    /// Fails for a closed client and in a forked child.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_process()?;
        if *self.shared.closed.borrow() {
            Err(Error::closed())
        } else {
            Ok(())
        }
    }

    /// Whether this is the copy in a forked child process.
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
        if self.shared.driver.is_aside() {
            self.shared.unpark();
        }
        Ok(())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if self.is_forked() {
            // The child of a fork has copies of the runtime's file descriptors, which share their
            // state with the parent. Dropping them here would affect the parent.
            std::mem::forget(Arc::clone(&self.shared));
            return;
        }
        // A drop cannot report an error; `close` can.
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

    /// The path of a call. A thread inside another runtime cannot drive this one, but can wait for
    /// a reply.
    fn path(&self, entered: &WaiterGuard<'_>) -> Path {
        match Handle::try_current() {
            Ok(_) => Path::Job,
            Err(_) => self.driver.path(entered.alone),
        }
    }

    /// Drives the runtime until `future` ends. Returns `None` when the bridge is closed first.
    fn drive_for<T>(&self, path: Path, future: impl Future<Output = T>) -> Option<T> {
        let runtime = self.runtime.read().clone()?;
        let runtime = runtime.0.as_ref()?;
        let _driving = DriverGuard::begin(&self.driver);
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

    /// The main loop of the runtime thread.
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
        // Dropping the runtime drops all tasks; a task that owes a reply sends `Closed`.
        drop(self.runtime.write().take());
        drop(runtime);
    }

    /// Lets callers drive the runtime while they arrive one at a time.
    fn stand_aside(&self, closed: &watch::Receiver<bool>) {
        self.driver.stand_aside(true);
        let mut seen = None;
        while !*closed.borrow() {
            let traffic = self.driver.traffic();
            // More threads wait than drive: callers overlap.
            let overlap = traffic.waiting > traffic.driving;
            let quiet = traffic.driving == 0 && seen == Some(traffic.drives);
            if overlap || quiet {
                break;
            }
            seen = Some(traffic.drives);
            thread::park_timeout(LINGER);
        }
        self.driver.stand_aside(false);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

impl Drop for OwnedRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts every job as a task from inside the runtime. A wake-up from outside costs a system call;
/// one is enough for all jobs that arrive while the runtime is busy.
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
        let entered = WaiterGuard::new(&self.driver);
        let path = self.path(&entered);
        if path != Path::Job {
            // A panic of a task stays in its task; a panic here would be a bug in this file.
            self.drive_for(path, std::future::poll_fn(ready));
        } else if self.driver.is_aside() {
            self.unpark();
        }
        // If the drive ended with a reply, this returns at once. If it ended because the bridge
        // closed, the reply arrives shortly.
        block();
        true
    }
}

/// Counts a waiting thread until it is dropped.
struct WaiterGuard<'a> {
    driver: &'a Driver,
    alone: bool,
}

impl<'a> WaiterGuard<'a> {
    fn new(driver: &'a Driver) -> Self {
        WaiterGuard {
            driver,
            alone: driver.enter(),
        }
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.driver.leave();
    }
}

/// Counts a driving caller until it is dropped.
struct DriverGuard<'a>(&'a Driver);

impl<'a> DriverGuard<'a> {
    fn begin(driver: &'a Driver) -> Self {
        driver.begin_driving();
        DriverGuard(driver)
    }
}

impl Drop for DriverGuard<'_> {
    fn drop(&mut self) {
        self.0.end_driving();
    }
}

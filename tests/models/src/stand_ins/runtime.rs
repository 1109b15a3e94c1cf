//! The current-thread runtime of tokio: tasks, which one thread at a time runs.
//!
//! A thread in `block_on` takes the right to drive if it is free, and then runs all tasks beside its future. Otherwise
//! it waits for that right and for its own future, whichever comes first.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::Notify;
use crate::{Condvar, Mutex};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Debug)]
pub struct Builder;

#[derive(Debug)]
pub struct Runtime(Arc<Scheduler>);

#[derive(Debug)]
pub struct Handle;

/// There is no runtime on this thread.
#[derive(Debug)]
pub struct TryCurrentError;

#[derive(Debug, Default)]
struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
    /// Notified when the right to drive is free.
    free: Notify,
}

#[derive(Default)]
struct State {
    /// In an order that is the same in every run, also when they are dropped.
    tasks: BTreeMap<u64, Option<Task>>,
    woken: VecDeque<u64>,
    next: u64,
    is_driven: bool,
    is_over: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

loom::thread_local!(static CURRENT: RefCell<Option<Arc<Scheduler>>> = RefCell::new(None));

impl Builder {
    pub fn new_current_thread() -> Self {
        Builder
    }

    pub fn enable_all(&mut self) -> &mut Self {
        self
    }

    pub fn global_queue_interval(&mut self, _polls: u32) -> &mut Self {
        self
    }

    pub fn event_interval(&mut self, _polls: u32) -> &mut Self {
        self
    }

    pub fn build(&mut self) -> io::Result<Runtime> {
        Ok(Runtime(Arc::default()))
    }
}

impl Handle {
    pub fn try_current() -> Result<Handle, TryCurrentError> {
        let is_inside = CURRENT.with(|current| current.borrow().is_some());
        if is_inside {
            Ok(Handle)
        } else {
            Err(TryCurrentError)
        }
    }
}

/// Starts a task on the runtime of this thread.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    let scheduler = CURRENT.with(|current| current.borrow().clone());
    scheduler.expect("inside a runtime").spawn(Box::pin(task));
}

impl Runtime {
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(Box::pin(task));
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let future = pin!(future);
        let before = CURRENT.with(|current| current.replace(Some(Arc::clone(&self.0))));
        assert!(before.is_none(), "a runtime inside a runtime");
        let result = self.0.block_on(future);
        CURRENT.with(|current| current.replace(None));
        result
    }

    pub fn shutdown_background(self) {
        let mut state = self.0.state.lock();
        state.is_over = true;
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        // Without the lock: the end of a task may wake others.
        drop(tasks);
    }
}

impl Scheduler {
    fn spawn(&self, task: Task) {
        let mut state = self.state.lock();
        if state.is_over {
            drop(state);
            return;
        }
        state.next += 1;
        let number = state.next;
        state.tasks.insert(number, Some(task));
        state.woken.push_back(number);
        drop(state);
        self.changed.notify_all();
    }

    fn block_on<T>(self: &Arc<Self>, mut future: Pin<&mut impl Future<Output = T>>) -> T {
        loop {
            let is_driver = !std::mem::replace(&mut self.state.lock().is_driven, true);
            if is_driver {
                let result = self.drive(future);
                self.state.lock().is_driven = false;
                self.free.notify_one();
                return result;
            }
            let mut free = pin!(self.free.notified());
            // The right may have become free before this one waits for it; then it has a permit.
            let ready = crate::block_on(std::future::poll_fn(|cx| {
                if free.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                future.as_mut().poll(cx).map(Some)
            }));
            if let Some(result) = ready {
                return result;
            }
        }
    }

    fn drive<T>(self: &Arc<Self>, mut future: Pin<&mut impl Future<Output = T>>) -> T {
        let own = Arc::new(Woken {
            scheduler: Arc::clone(self),
            is_woken: Mutex::new(true),
        });
        let waker = Waker::from(Arc::clone(&own));
        loop {
            if std::mem::take(&mut *own.is_woken.lock())
                && let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return result;
            }
            let mut state = self.state.lock();
            match state.woken.pop_front() {
                Some(number) => {
                    let task = state.tasks.get_mut(&number).and_then(Option::take);
                    drop(state);
                    if let Some(task) = task {
                        self.poll(number, task);
                    }
                }
                None if *own.is_woken.lock() => {}
                None => self.changed.wait(&mut state),
            }
        }
    }

    fn poll(self: &Arc<Self>, number: u64, mut task: Task) {
        let waker = Waker::from(Arc::new(TaskWaker {
            scheduler: Arc::clone(self),
            number,
        }));
        let is_over = task
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        let mut state = self.state.lock();
        if is_over || state.is_over {
            state.tasks.remove(&number);
            drop(state);
            drop(task);
        } else {
            state.tasks.insert(number, Some(task));
        }
    }
}

/// The waker of the future in `block_on`.
struct Woken {
    scheduler: Arc<Scheduler>,
    is_woken: Mutex<bool>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        // With the lock of the driver, which is not between its look and its wait then.
        let state = self.scheduler.state.lock();
        *self.is_woken.lock() = true;
        drop(state);
        self.scheduler.changed.notify_all();
    }
}

struct TaskWaker {
    scheduler: Arc<Scheduler>,
    number: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut state = self.scheduler.state.lock();
        if !state.tasks.contains_key(&self.number) || state.woken.contains(&self.number) {
            return;
        }
        state.woken.push_back(self.number);
        drop(state);
        self.scheduler.changed.notify_all();
    }
}

//! The timers of the background work of a client, such as renewals and pings.
//!
//! A tokio timer of some seconds wakes the thread up to three times, because it moves between the levels
//! of a wheel, and its clock stops while the machine is suspended. These share one timer of the system,
//! which wakes the thread once, runs on the boot-time clock, and fires as soon as a suspended machine
//! resumes. A timer has a window of time: it fires in the window when another one fires, and at its end
//! otherwise.

mod boot_timer;
mod table;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::boot_timer::BootTimer;
use self::table::TimerTable;
pub(crate) use self::table::Window;
use crate::util::boot_time::BootTime;

/// The timers of a client. A clone has the same timers.
#[derive(Clone, Debug)]
pub(crate) struct Timers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    now: fn() -> BootTime,
    table: Mutex<TimerTable>,
    /// Notified when the first timer may have changed.
    changed: Notify,
}

/// A timer. It is not set at first.
#[derive(Debug)]
pub(crate) struct Timer {
    timers: Timers,
    number: u64,
    window: Option<Window>,
}

impl Timers {
    /// Creates the timers of a client; `now` reads the boot-time clock.
    pub(crate) fn new(now: fn() -> BootTime) -> Self {
        Timers(Arc::new(Shared {
            now,
            table: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// The current time on the boot-time clock.
    pub(crate) fn now(&self) -> BootTime {
        (self.0.now)()
    }

    /// Creates a timer. It must be used by a task of the client's runtime: the first one starts the task
    /// of the timer.
    pub(crate) fn timer(&self) -> Timer {
        let mut table = self.0.table.lock();
        let number = table.number();
        if number == 0 {
            tokio::spawn(run(Arc::clone(&self.0), BootTimer::new()));
        }
        Timer {
            timers: self.clone(),
            number,
            window: None,
        }
    }
}

impl Timer {
    /// Sets the timer, and replaces an earlier setting; `None` unsets it.
    pub(crate) fn set(&mut self, window: Option<Window>) {
        if self.window == window {
            return;
        }
        let shared = &self.timers.0;
        let mut table = shared.table.lock();
        let first = table.first();
        if let Some(old) = self.window.take() {
            table.unset(self.number, old);
        }
        if let Some(window) = window {
            table.set(self.number, window);
        }
        self.window = window;
        if table.first() != first {
            shared.changed.notify_one();
        }
    }

    /// Ready once after the timer fired. Pending while it is not set.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(window) = self.window else {
            return Poll::Pending;
        };
        let mut table = self.timers.0.table.lock();
        if table.wait(self.number, window, cx.waker()) {
            return Poll::Pending;
        }
        self.window = None;
        Poll::Ready(())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.set(None);
    }
}

/// Wakes the tasks whose timers fire. Ends with the runtime.
async fn run(shared: Arc<Shared>, mut timer: BootTimer) {
    loop {
        let first = shared.table.lock().first();
        timer.set(first, (shared.now)());
        let mut changed = std::pin::pin!(shared.changed.notified());
        std::future::poll_fn(|cx| match timer.poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => changed.as_mut().poll(cx),
        })
        .await;
        let fired = shared.table.lock().fire((shared.now)());
        for task in fired {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests;

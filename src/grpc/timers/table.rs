//! Decides which timers fire. Pure: time is an argument.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::util::boot_time::BootTime;

/// When a timer fires: at `until`, or earlier in the window together with another timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: BootTime,
    pub(crate) until: BootTime,
}

#[cfg(test)]
impl Window {
    /// The window of a timer that never fires early.
    pub(crate) fn at(until: BootTime) -> Self {
        Window { from: until, until }
    }
}

/// The timers that are set.
#[derive(Debug, Default)]
pub(super) struct TimerTable {
    /// The timers, ordered by the ends of their windows.
    set: BTreeMap<(BootTime, u64), PendingTimer>,
    count: u64,
}

#[derive(Debug)]
struct PendingTimer {
    from: BootTime,
    task: Option<Waker>,
}

impl TimerTable {
    /// The number of a new timer; 0 for the first one.
    pub(super) fn number(&mut self) -> u64 {
        self.count += 1;
        self.count - 1
    }

    pub(super) fn set(&mut self, number: u64, window: Window) {
        let from = window.from;
        let timer = PendingTimer { from, task: None };
        self.set.insert((window.until, number), timer);
    }

    pub(super) fn unset(&mut self, number: u64, window: Window) {
        self.set.remove(&(window.until, number));
    }

    /// When the next timer fires.
    pub(super) fn first(&self) -> Option<BootTime> {
        self.set.first_key_value().map(|((until, _), _)| *until)
    }

    /// Stores the task that waits for a timer. Returns `false` when the timer has fired.
    pub(super) fn wait(&mut self, number: u64, window: Window, task: &Waker) -> bool {
        let Some(timer) = self.set.get_mut(&(window.until, number)) else {
            return false;
        };
        match &mut timer.task {
            Some(known) => known.clone_from(task),
            None => timer.task = Some(task.clone()),
        }
        true
    }

    /// Removes the timers that fire at `now`, and returns the tasks that wait for them.
    pub(super) fn fire(&mut self, now: BootTime) -> Vec<Waker> {
        if self.first().is_none_or(|first| first > now) {
            return Vec::new();
        }
        let mut tasks = Vec::new();
        self.set.retain(|_, timer| {
            let stays = timer.from > now;
            if !stays {
                tasks.extend(timer.task.take());
            }
            stays
        });
        tasks
    }
}

//! Decides which thread drives the runtime during a call.
//!
//! A lone caller is fastest when it drives the runtime itself, because no thread has to be woken.
//! Overlapping callers are fastest when one thread drives for all of them, because their requests
//! are sent together. (A thread that waits for the first of many submitted requests is a lone
//! caller too.) A change of the driver costs more than one call gains, so a caller starts to drive
//! only after a series of lone calls, and stops at the first overlap.

use std::time::Duration;

use crate::util::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use crate::util::sync::Instant;

/// How many lone calls in a row precede the change to a driving caller.
const LONE_CALLS: u32 = 32;

/// The longest pause within a series of calls. After a longer one the runtime thread drives again
/// anyway.
const SOON: Duration = Duration::from_millis(2);

/// Which thread drives the private runtime during a call. Intended for benchmarks; the default
/// adapts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DriveMode {
    /// A lone caller drives; overlapping callers use the runtime's thread.
    #[default]
    Auto,
    /// Every caller drives, or waits for the one that does.
    Caller,
    /// The runtime's thread always drives.
    Thread,
}

/// The path of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Drive the runtime: its thread already stands aside.
    Direct,
    /// Drive the runtime after asking its thread to stand aside.
    TakeOver,
    /// Send the call to the runtime thread.
    Job,
}

#[derive(Debug)]
pub(super) struct Driver {
    drive: DriveMode,
    epoch: Instant,
    waiting: AtomicUsize,
    driving: AtomicUsize,
    aside: AtomicBool,
    lone: AtomicU32,
    last_start: AtomicU64,
    drives: AtomicU64,
}

impl Driver {
    pub(super) fn new(drive: DriveMode) -> Self {
        Driver {
            drive,
            epoch: Instant::now(),
            waiting: AtomicUsize::new(0),
            driving: AtomicUsize::new(0),
            aside: AtomicBool::new(false),
            lone: AtomicU32::new(0),
            last_start: AtomicU64::new(0),
            drives: AtomicU64::new(0),
        }
    }

    /// Counts a waiting thread and returns whether it is the only one. [`leave`](Driver::leave)
    /// ends the count.
    pub(super) fn enter(&self) -> bool {
        self.waiting.fetch_add(1, SeqCst) == 0
    }

    pub(super) fn leave(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }

    /// The path of a call; `alone` is the result of [`enter`](Driver::enter).
    pub(super) fn path(&self, alone: bool) -> Path {
        match self.drive {
            DriveMode::Thread => return Path::Job,
            DriveMode::Caller => return Path::TakeOver,
            DriveMode::Auto => {}
        }
        // An overlap ends the series, so that a program with several threads does not change the
        // driver often.
        if !alone {
            self.lone.store(0, SeqCst);
            return Path::Job;
        }
        if self.aside.load(SeqCst) {
            return Path::Direct;
        }
        let now = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Stored at each call: the pause is counted between the starts of two calls.
        let last = self.last_start.swap(now, SeqCst);
        if now.saturating_sub(last) > SOON.as_micros() as u64 {
            self.lone.store(1, SeqCst);
            return Path::Job;
        }
        if self.lone.fetch_add(1, SeqCst) + 1 < LONE_CALLS {
            Path::Job
        } else {
            Path::TakeOver
        }
    }

    /// Whether the runtime thread stands aside, so that a job has to wake it.
    pub(super) fn is_aside(&self) -> bool {
        self.aside.load(SeqCst)
    }

    pub(super) fn stand_aside(&self, aside: bool) {
        self.aside.store(aside, SeqCst);
        if !aside {
            self.lone.store(0, SeqCst);
        }
    }

    pub(super) fn begin_driving(&self) {
        self.drives.fetch_add(1, SeqCst);
        self.driving.fetch_add(1, SeqCst);
    }

    pub(super) fn end_driving(&self) {
        self.driving.fetch_sub(1, SeqCst);
    }

    pub(super) fn traffic(&self) -> DriverLoad {
        DriverLoad {
            drives: self.drives.load(SeqCst),
            waiting: self.waiting.load(SeqCst),
            driving: self.driving.load(SeqCst),
        }
    }
}

/// The counts that the runtime thread checks while it stands aside.
#[derive(Clone, Copy, Debug)]
pub(super) struct DriverLoad {
    /// How often a caller has driven so far.
    pub(super) drives: u64,
    /// The number of threads that wait for a reply.
    pub(super) waiting: usize,
    /// How many of them drive the runtime.
    pub(super) driving: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lone_call(driver: &Driver) -> Path {
        let alone = driver.enter();
        let path = driver.path(alone);
        driver.leave();
        path
    }

    #[test]
    fn a_lone_caller_drives_only_after_a_streak() {
        let driver = Driver::new(DriveMode::Auto);
        for _ in 1..LONE_CALLS {
            assert_eq!(lone_call(&driver), Path::Job);
        }
        assert_eq!(lone_call(&driver), Path::TakeOver);
        driver.stand_aside(true);
        assert_eq!(lone_call(&driver), Path::Direct);
    }

    #[test]
    fn one_overlap_restarts_the_streak() {
        let driver = Driver::new(DriveMode::Auto);
        for _ in 1..LONE_CALLS {
            lone_call(&driver);
        }
        assert!(driver.enter());
        assert!(!driver.enter());
        assert_eq!(driver.path(false), Path::Job);
        driver.leave();
        driver.leave();
        assert_eq!(lone_call(&driver), Path::Job);
    }

    #[test]
    fn a_forced_drive_mode_never_changes() {
        let caller = Driver::new(DriveMode::Caller);
        let thread = Driver::new(DriveMode::Thread);
        for _ in 0..3 * LONE_CALLS {
            assert_eq!(lone_call(&caller), Path::TakeOver);
            assert_eq!(lone_call(&thread), Path::Job);
        }
    }
}

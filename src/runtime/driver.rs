//! Who drives the runtime: the rule by which a call chooses its path.
//!
//! A lone caller is fastest when it drives the runtime itself: no thread has to be woken for it.
//! Callers that overlap are fastest when one thread drives for all of them: their requests leave
//! together. (A thread that waits for the first of many submitted requests is a lone caller too.)
//! Changing over costs more than either path saves on one call, so the switch waits until
//! a caller has been alone for a while, and turns back at the first overlap.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// So many calls in a row, each alone and soon after the last, before a caller may drive.
const LONE_CALLS: u32 = 32;

/// Calls further apart than this gain nothing: the runtime thread has taken over in between.
const SOON: Duration = Duration::from_millis(2);

/// Who drives the private runtime while a call waits. For measuring; the default decides by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DriveMode {
    /// A lone caller drives; callers that overlap leave it to the runtime's thread.
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
    /// DriveMode the runtime: the runtime thread stands aside already.
    Direct,
    /// DriveMode the runtime, once its thread has been asked to stand aside.
    TakeOver,
    /// Hand the call to the runtime thread.
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

    /// Counts in a thread that waits, and says whether it is the only one;
    /// [`leave`](Driver::leave) counts it out.
    pub(super) fn enter(&self) -> bool {
        self.waiting.fetch_add(1, SeqCst) == 0
    }

    pub(super) fn leave(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }

    /// The path of a call that was alone (or not) when it entered.
    pub(super) fn path(&self, alone: bool) -> Path {
        match self.drive {
            DriveMode::Thread => return Path::Job,
            DriveMode::Caller => return Path::TakeOver,
            DriveMode::Auto => {}
        }
        if !alone {
            self.lone.store(0, SeqCst);
            return Path::Job;
        }
        if self.aside.load(SeqCst) {
            return Path::Direct;
        }
        let now = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
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

    /// Whether the runtime thread stands aside, so that a job must wake it.
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

    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            drives: self.drives.load(SeqCst),
            waiting: self.waiting.load(SeqCst),
            driving: self.driving.load(SeqCst),
        }
    }
}

/// What the runtime thread looks at while it stands aside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    /// How often a caller has driven so far.
    pub(super) drives: u64,
    /// Threads that wait for a reply.
    pub(super) waiting: usize,
    /// Those of them that drive.
    pub(super) driving: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lone_call(switch: &Driver) -> Path {
        let alone = switch.enter();
        let path = switch.path(alone);
        switch.leave();
        path
    }

    #[test]
    fn a_lone_caller_takes_over_after_a_streak_and_only_then() {
        let switch = Driver::new(DriveMode::Auto);
        for _ in 1..LONE_CALLS {
            assert_eq!(lone_call(&switch), Path::Job);
        }
        assert_eq!(lone_call(&switch), Path::TakeOver);
        switch.stand_aside(true);
        assert_eq!(lone_call(&switch), Path::Direct);
    }

    #[test]
    fn one_overlap_begins_the_streak_anew() {
        let switch = Driver::new(DriveMode::Auto);
        for _ in 1..LONE_CALLS {
            lone_call(&switch);
        }
        assert!(switch.enter());
        assert!(!switch.enter());
        assert_eq!(switch.path(false), Path::Job);
        switch.leave();
        switch.leave();
        assert_eq!(lone_call(&switch), Path::Job);
    }

    #[test]
    fn a_forced_path_is_never_left() {
        let caller = Driver::new(DriveMode::Caller);
        let thread = Driver::new(DriveMode::Thread);
        for _ in 0..3 * LONE_CALLS {
            assert_eq!(lone_call(&caller), Path::TakeOver);
            assert_eq!(lone_call(&thread), Path::Job);
        }
    }
}

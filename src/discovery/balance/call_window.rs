//! The outcomes of the last calls of an instance. Pure.

use std::time::{Duration, Instant};

/// The calls that are remembered.
const CALLS: u32 = 20;

/// The time without a call after which the older ones say nothing any more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Failed calls, and all calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) failed: u64,
    pub(super) calls: u64,
}

impl Tally {
    pub(super) fn plus(self, other: Tally) -> Tally {
        let failed = self.failed.saturating_add(other.failed);
        let calls = self.calls.saturating_add(other.calls);
        Tally { failed, calls }
    }

    pub(super) fn minus(self, other: Tally) -> Tally {
        let failed = self.failed.saturating_sub(other.failed);
        let calls = self.calls.saturating_sub(other.calls);
        Tally { failed, calls }
    }

    /// Returns whether at least this percentage of the calls failed. Without calls it is false.
    pub(super) fn is_at_least(self, percent: u64) -> bool {
        self.calls > 0 && self.failed * 100 >= percent * self.calls
    }

    /// Returns whether the failure rate is at least twice that of `other`.
    pub(super) fn is_twice(self, other: Tally) -> bool {
        self.failed * other.calls >= 2 * other.failed * self.calls
    }
}

/// The outcomes of up to 20 calls, the newest in the lowest bit; 1 is a failure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallWindow {
    failures: u32,
    calls: u32,
    last: Option<Instant>,
}

impl CallWindow {
    pub(super) fn add(&mut self, failed: bool, now: Instant) {
        let idle = self.last.map(|last| now.saturating_duration_since(last));
        if idle.is_some_and(|idle| idle > FORGOTTEN) {
            *self = CallWindow::default();
        }
        self.failures = (self.failures << 1 | u32::from(failed)) & ((1 << CALLS) - 1);
        self.calls = (self.calls + 1).min(CALLS);
        self.last = Some(now);
    }

    pub(super) fn tally(&self) -> Tally {
        Tally {
            failed: self.failures.count_ones().into(),
            calls: self.calls.into(),
        }
    }

    /// The failures since the last success, up to 20.
    pub(super) fn consecutive(&self) -> u32 {
        self.failures.trailing_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_calls_count() {
        let now = Instant::now();
        let mut window = CallWindow::default();
        for n in 0..50 {
            window.add(n < 40, now);
            let calls = (n + 1).min(20);
            let failed = if n < 40 { calls } else { 59 - n };
            assert_eq!(window.tally(), Tally { failed, calls });
            let consecutive = if n < 40 { calls } else { 0 };
            assert_eq!(u64::from(window.consecutive()), consecutive);
        }
    }

    #[test]
    fn calls_of_more_than_a_minute_ago_do_not_count() {
        let now = Instant::now();
        let mut window = CallWindow::default();
        window.add(true, now);
        window.add(true, now + FORGOTTEN);
        assert_eq!(window.consecutive(), 2);
        window.add(true, now + 2 * FORGOTTEN + Duration::from_millis(1));
        assert_eq!((window.consecutive(), window.tally().calls), (1, 1));
    }

    #[test]
    fn tallies_are_compared_as_fractions() {
        let tally = |failed, calls| Tally { failed, calls };
        assert!(tally(3, 10).is_at_least(30) && !tally(2, 10).is_at_least(30));
        assert!(!tally(0, 0).is_at_least(0));
        assert!(tally(4, 10).is_twice(tally(20, 100)) && !tally(3, 10).is_twice(tally(20, 100)));
        assert!(tally(1, 1).is_twice(tally(0, 0)));
    }
}

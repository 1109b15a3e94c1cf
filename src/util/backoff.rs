//! Exponential backoff with full jitter.
//!
//! Full jitter (any wait from zero to the ceiling) spreads the clients of a restarted server better
//! than a few percent around the ceiling would.

use std::time::Duration;

/// The growing ceiling of a wait.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    floor: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Creates ceilings that start at `floor`, double with every failure, and end at `cap`.
    pub(crate) const fn new(floor: Duration, cap: Duration) -> Self {
        Backoff {
            floor,
            cap,
            failures: 0,
        }
    }

    /// The wait after one more failure; `random` is in 0..1.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(random.clamp(0.0, 1.0))
    }

    /// A wait below the cap, for an operation that is expected to fail again.
    pub(crate) fn last(&self, random: f64) -> Duration {
        self.cap.mul_f64(random.clamp(0.0, 1.0))
    }

    /// The longest possible next wait.
    pub(crate) fn ceiling(&self) -> Duration {
        // More than 20 doublings would be over every cap.
        let doubled = 1u32.checked_shl(self.failures.min(20)).unwrap_or(u32::MAX);
        self.floor.saturating_mul(doubled).min(self.cap)
    }

    /// Whether there was at most one failure.
    pub(crate) fn is_first_retry(&self) -> bool {
        self.failures <= 1
    }

    /// Starts again from the floor after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_wait_doubles_up_to_the_cap_until_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
        let ceilings: Vec<_> = (0..5).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(ceilings, [50, 100, 200, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.ceiling(), Duration::from_millis(50));
    }

    // Case: CN-16
    #[test]
    fn waits_have_full_jitter_and_never_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        for _ in 0..100 {
            backoff.next(0.5);
        }
    }
}

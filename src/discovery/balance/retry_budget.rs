//! Limits how many calls are attempted again. Pure.

use std::time::{Duration, Instant};

/// The limit of the attempts after the first that [`ServiceView::call`](crate::ServiceView::call) makes.
///
/// It is a token bucket of the whole view, so that a service which fails does not get a multiple of its calls
/// in addition: over any time, the number of retries is at most `percent` of the number of calls, plus
/// `per_second` for each second. What is not used is kept for 10 s. The defaults are those of Finagle and
/// Linkerd: 20 percent, and 10 per second.
///
/// ```
/// use etcd_blocking::balance::RetryBudget;
///
/// let budget = RetryBudget::default();
/// assert_eq!((budget.percent, budget.per_second, budget.attempts), (20, 10, 3));
/// let none = RetryBudget::none();
/// assert_eq!((none.percent, none.per_second), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryBudget {
    /// The retries for each 100 calls.
    pub percent: u32,
    /// The retries that are permitted each second in addition.
    pub per_second: u32,
    /// The most attempts of one call, the first one included: 1 to 16.
    pub attempts: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget {
            percent: 20,
            per_second: 10,
            attempts: 3,
        }
    }
}

impl RetryBudget {
    /// Creates a budget without retries.
    pub fn none() -> Self {
        RetryBudget {
            percent: 0,
            per_second: 0,
            attempts: 1,
        }
    }

    /// Sets the retries for each 100 calls.
    pub fn percent(mut self, percent: u32) -> Self {
        self.percent = percent;
        self
    }

    /// Sets the retries that are permitted each second in addition.
    pub fn per_second(mut self, per_second: u32) -> Self {
        self.per_second = per_second;
        self
    }

    /// Sets the most attempts of one call, the first one included. It is limited to 1 to 16.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.clamp(1, MAX_ATTEMPTS as u32);
        self
    }
}

/// The largest [`RetryBudget::attempts`].
pub(super) const MAX_ATTEMPTS: usize = 16;

/// The units of one retry. A call adds `percent` thousand millions of them and a nanosecond adds 100 times
/// `per_second`, so that all is exact.
const RETRY: u64 = 100_000_000_000;

/// The time for which unused retries are kept.
const KEPT_SECONDS: u64 = 10;

/// The state of the bucket.
#[derive(Debug)]
pub(super) struct RetryTokens {
    budget: RetryBudget,
    units: u64,
    /// The time up to which units were added.
    added: Option<Instant>,
}

impl RetryTokens {
    pub(super) fn new(budget: RetryBudget) -> Self {
        // One second of them: a program that has just started has made no calls yet.
        let units = u64::from(budget.per_second).saturating_mul(RETRY);
        RetryTokens {
            budget,
            units,
            added: None,
        }
    }

    fn add(&mut self, units: u64) {
        let kept = u64::from(self.budget.per_second.max(1)).saturating_mul(KEPT_SECONDS);
        self.units = self
            .units
            .saturating_add(units)
            .min(kept.saturating_mul(RETRY));
    }

    /// Counts a call.
    pub(super) fn call(&mut self) {
        self.add(u64::from(self.budget.percent).saturating_mul(RETRY / 100));
    }

    /// Whether one more attempt is within the budget; it is then counted.
    pub(super) fn retry(&mut self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.added.unwrap_or(now));
        self.added = Some(now.max(self.added.unwrap_or(now)));
        let age = age.min(Duration::from_secs(KEPT_SECONDS)).as_nanos() as u64;
        self.add(
            age.saturating_mul(u64::from(self.budget.per_second))
                .saturating_mul(100),
        );
        let permitted = self.units >= RETRY;
        if permitted {
            self.units -= RETRY;
        }
        permitted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_of_five_calls_is_attempted_again_and_ten_per_second_in_addition() {
        let start = Instant::now();
        let mut tokens = RetryTokens::new(RetryBudget::default());
        let retries =
            |tokens: &mut RetryTokens, now| (0..1000).filter(|_| tokens.retry(now)).count();
        assert_eq!(retries(&mut tokens, start), 10);
        for _ in 0..50 {
            tokens.call();
        }
        assert_eq!(retries(&mut tokens, start), 10);
        assert_eq!(retries(&mut tokens, start + Duration::from_millis(100)), 1);
        assert_eq!(retries(&mut tokens, start + Duration::from_secs(1)), 9);
        // After an hour those of ten seconds are there.
        assert_eq!(retries(&mut tokens, start + Duration::from_secs(3600)), 100);
    }

    #[test]
    fn without_a_budget_there_are_no_retries() {
        let start = Instant::now();
        let mut tokens = RetryTokens::new(RetryBudget::none());
        for n in 0..1000 {
            tokens.call();
            assert!(!tokens.retry(start + Duration::from_secs(n)));
        }
    }

    #[test]
    fn the_largest_budget_does_not_overflow() {
        let start = Instant::now();
        let budget = RetryBudget::default()
            .percent(u32::MAX)
            .per_second(u32::MAX);
        let mut tokens = RetryTokens::new(budget);
        for n in 0..100 {
            tokens.call();
            assert!(tokens.retry(start + Duration::from_secs(n * 1_000_000)));
        }
        assert_eq!(RetryBudget::default().attempts(0).attempts, 1);
        assert_eq!(RetryBudget::default().attempts(99).attempts, 16);
    }

    proptest! {
        #[test]
        fn the_retries_never_exceed_the_budget(
            percent in 0u32..150,
            per_second in 0u32..20,
            events in proptest::collection::vec((any::<bool>(), 0u64..500), 1..400),
        ) {
            let budget = RetryBudget::default().percent(percent).per_second(per_second);
            let mut tokens = RetryTokens::new(budget);
            let start = Instant::now();
            let (mut millis, mut calls, mut retries) = (0, 0, 0);
            for (call, wait) in events {
                millis += wait;
                if call {
                    tokens.call();
                    calls += 1;
                } else if tokens.retry(start + Duration::from_millis(millis)) {
                    retries += 1;
                }
                let earned = calls * u64::from(percent) * 10 + (1000 + millis) * u64::from(per_second);
                prop_assert!(retries * 1000 <= earned, "{retries} of {calls} in {millis} ms");
            }
        }
    }
}

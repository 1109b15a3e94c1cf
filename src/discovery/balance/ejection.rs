//! The rule by which an instance that fails is not picked for a time.

use std::time::Duration;

/// When an instance is ejected: it gets no calls for a time, because calls to it failed.
///
/// The outcomes are those of [`CallGuard`](crate::balance::CallGuard) and of
/// [`ServiceView::call`](crate::ServiceView::call); without them nothing is ejected. An instance is ejected
/// after `consecutive_failures`, or when `failure_percent` of its last 20 calls failed (of at least 5, and at least
/// 3 of them), but only if it fails at least twice as often as the others. At most half of the instances that can be
/// picked are ejected at a time. When the others begin to fail as well, the ejected ones are used again.
///
/// The first ejection lasts `base_time`, and each further one twice as long, up to `max_time`; each is shortened
/// at random by up to a half. After it the instance gets one call at a time. After 5 of them it is used
/// as before; one that fails ejects it again, unless the others fail about as often.
///
/// ```
/// use std::time::Duration;
/// use etcd_blocking::balance::Ejection;
///
/// let ejection = Ejection::default();
/// assert_eq!((ejection.consecutive_failures, ejection.failure_percent), (5, 30));
/// assert_eq!(ejection.base_time, Duration::from_secs(5));
/// assert_eq!(ejection.max_time, Duration::from_secs(300));
///
/// // Only an instance that never answers is ejected.
/// let lenient = Ejection::default().consecutive_failures(20).failure_percent(0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ejection {
    /// The failures in a row after which an instance is ejected; 0 for no such rule.
    pub consecutive_failures: u32,
    /// The percentage of failed calls from which an instance is ejected; 0 for no such rule.
    pub failure_percent: u32,
    /// The time of the first ejection.
    pub base_time: Duration,
    /// The longest time of an ejection.
    pub max_time: Duration,
}

/// A year, so that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            consecutive_failures: 5,
            failure_percent: 30,
            base_time: Duration::from_secs(5),
            max_time: Duration::from_secs(300),
        }
    }
}

impl Ejection {
    /// Creates the rule that ejects no instance.
    pub fn off() -> Self {
        Ejection::default()
            .consecutive_failures(0)
            .failure_percent(0)
    }

    /// Sets the failures in a row after which an instance is ejected; 0 for no such rule.
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// Sets the percentage of failed calls from which an instance is ejected; 0 for no such rule.
    pub fn failure_percent(mut self, percent: u32) -> Self {
        self.failure_percent = percent;
        self
    }

    /// Sets how long the first ejection lasts.
    pub fn base_time(mut self, time: Duration) -> Self {
        self.base_time = time;
        self
    }

    /// Sets how long an ejection lasts at most.
    pub fn max_time(mut self, time: Duration) -> Self {
        self.max_time = time;
        self
    }

    pub(super) fn is_off(&self) -> bool {
        self.consecutive_failures == 0 && self.failure_percent == 0
    }

    /// The time of the `number`th ejection in a row, counted from 1. `random` is in 0..1.
    pub(super) fn time(&self, number: u32, random: f64) -> Duration {
        let doublings = number.saturating_sub(1).min(31);
        let full = self.base_time.saturating_mul(1 << doublings);
        let full = full.min(self.max_time).min(LONGEST);
        // Programs that ejected an instance together do not try it together.
        full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ejections_double_up_to_their_longest_time_and_have_jitter() {
        let ejection = Ejection::default();
        let seconds = |number| ejection.time(number, 1.0).as_secs();
        assert_eq!(
            [1, 2, 3, 6, 7, 8, u32::MAX].map(seconds),
            [5, 10, 20, 160, 300, 300, 300]
        );
        assert_eq!(ejection.time(2, 0.0), Duration::from_secs(5));
        let huge = ejection.base_time(Duration::MAX).max_time(Duration::MAX);
        assert_eq!(huge.time(9, 1.0), LONGEST);
    }
}

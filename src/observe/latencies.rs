//! Histograms of latencies, with logarithmic buckets.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::util::atomic::AtomicU64;

/// The buckets for each doubling of the time: a bucket is at most a quarter of its lower bound
/// wide.
const STEPS: u64 = 4;

/// The bits that number the buckets of one doubling.
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// The number of buckets. The last one starts at 117 s, above any sensible deadline.
const BUCKETS: usize = 104;

/// The bucket of a time in microseconds.
fn bucket(micros: u64) -> usize {
    // Below the first power of two with four whole steps, each microsecond has its own bucket.
    if micros < STEPS {
        return usize::try_from(micros).unwrap_or(0);
    }
    // Four buckets per power of two: the error of a quantile is at most a quarter.
    let exponent = micros.ilog2();
    let step = (micros >> (exponent - STEP_BITS)) & (STEPS - 1);
    let index = u64::from(exponent + 1 - STEP_BITS) * STEPS + step;
    usize::try_from(index)
        .unwrap_or(usize::MAX)
        .min(BUCKETS - 1)
}

/// The upper bound of a bucket in microseconds, exclusive.
fn above(bucket: usize) -> u64 {
    let next = u64::try_from(bucket).unwrap_or(u64::MAX).saturating_add(1);
    if next < STEPS {
        return next;
    }
    let (octave, step) = (next / STEPS, next % STEPS);
    u32::try_from(octave - 1)
        .ok()
        .and_then(|shift| (STEPS + step).checked_shl(shift))
        .unwrap_or(u64::MAX)
}

/// The counters of one verb. Calls update them without a lock.
#[derive(Debug)]
pub(super) struct Buckets {
    counts: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

impl Buckets {
    pub(super) const fn new() -> Self {
        Buckets {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            sum_nanos: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, took: Duration) {
        // The sum is in nanoseconds: in microseconds, each fast call would be rounded down.
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get(bucket(nanos / 1000)) {
            count.fetch_add(1, Relaxed);
        }
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn snapshot(&self) -> Latencies {
        Latencies {
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Relaxed))
                .collect(),
            sum: Duration::from_nanos(self.sum_nanos.load(Relaxed)),
        }
    }
}

/// A histogram of the durations of calls.
///
/// Its buckets are logarithmic, four for each doubling of the time: a duration between 1 us and 2
/// minutes is known to within a quarter. Longer durations count in the last bucket.
///
/// ```
/// # use etcd_blocking::Client;
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let latency = client.metrics().latency();
/// if let (Some(p50), Some(p99)) = (latency.quantile(0.5), latency.quantile(0.99)) {
///     println!("half of the calls took at most {p50:?}, 99 of 100 at most {p99:?}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    counts: Vec<u64>,
    sum: Duration,
}

impl Latencies {
    /// The number of calls.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The total duration of all calls.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The mean duration; `None` when there was no call.
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.sum.as_nanos().checked_div(u128::from(self.count()))?;
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    }

    /// The duration that a fraction `part` of the calls (0 to 1) did not exceed, rounded up to the
    /// end of its bucket; `None` when there was no call.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let total = self.count();
        // At least one call and at most all, in spite of rounding.
        let rank = (part.clamp(0.0, 1.0) * total as f64).ceil() as u64;
        let rank = rank.clamp(1, total.max(1));
        let mut seen = 0;
        self.counts.iter().enumerate().find_map(|(index, count)| {
            seen += count;
            (seen >= rank).then(|| Duration::from_micros(above(index)))
        })
    }

    /// The number of calls that took less than `limit`, with the precision of a bucket: the value
    /// of a Prometheus bucket with `le`.
    pub fn below(&self, limit: Duration) -> u64 {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        let whole = self.counts.iter().enumerate();
        let whole = whole.take_while(|(index, _)| above(*index) <= micros);
        whole.map(|(_, count)| count).sum()
    }

    /// The buckets that are not empty: the end of each and its number of calls.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let filled = self.counts.iter().enumerate().filter(|(_, n)| **n > 0);
        filled.map(|(index, count)| (Duration::from_micros(above(index)), *count))
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Latencies) {
        // A default value has no buckets yet.
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_have_no_gaps() {
        for index in 0..BUCKETS - 1 {
            let end = above(index);
            assert_eq!(bucket(end - 1), index, "{end}");
            assert_eq!(bucket(end), index + 1, "{end}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(above(BUCKETS - 1), 1 << 27);
    }

    #[test]
    fn a_quantile_is_never_too_low_and_at_most_a_quarter_too_high() {
        let buckets = Buckets::new();
        for micros in 1..=10_000 {
            buckets.count(Duration::from_micros(micros));
        }
        let latencies = buckets.snapshot();
        assert_eq!(latencies.count(), 10_000);
        for (part, exact) in [(0.001, 10), (0.5, 5_000), (0.99, 9_900), (1.0, 10_000)] {
            let measured = latencies.quantile(part).unwrap().as_micros();
            assert!(
                measured >= exact && measured <= exact + exact / 4 + 1,
                "{part}: {measured}"
            );
        }
        assert_eq!(latencies.mean().unwrap().as_micros(), 5_000);
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        for empty in [Latencies::default(), Buckets::new().snapshot()] {
            assert_eq!((empty.quantile(0.5), empty.mean()), (None, None));
        }
    }

    #[test]
    fn merged_histograms_have_the_sum_of_their_counts() {
        let (fast, slow) = (Buckets::new(), Buckets::new());
        fast.count(Duration::from_micros(100));
        slow.count(Duration::from_secs(3));
        slow.count(Duration::from_secs(10_000));
        let mut all = Latencies::default();
        all.merge(&fast.snapshot());
        all.merge(&slow.snapshot());
        let counts =
            [1, 1_000, 10_000_000, 200_000_000].map(|us| all.below(Duration::from_micros(us)));
        assert_eq!(counts, [0, 1, 2, 3]);
        assert_eq!(all.buckets().count(), 3);
        assert_eq!(all.sum(), Duration::from_micros(10_003_000_100));
    }
}

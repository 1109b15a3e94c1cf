//! The latency of an instance, averaged with a memory for peaks. Pure.
//!
//! It is the average of Finagle's balancer `PeakEwma`: a latency above the average replaces it at once, and
//! the average decays with time.

use std::time::{Duration, Instant};

/// The time in which a latency loses 63 % of its part in the average: Finagle's default.
const DECAY: Duration = Duration::from_secs(10);

/// The cost of an instance that is called and was never measured: higher than any latency. Only its first
/// call is let through until that is answered.
const UNKNOWN: f64 = 1e15;

/// The moving average of the latencies of one instance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeakEwma {
    nanos: f64,
    at: Option<Instant>,
}

impl PeakEwma {
    /// Adds the latency of a call.
    pub(super) fn succeeded(&mut self, latency: Duration, now: Instant) {
        let latency = latency.as_nanos() as f64;
        let kept = self.kept(now);
        self.nanos = if latency > self.nanos {
            latency
        } else {
            self.nanos * kept + latency * (1.0 - kept)
        };
        self.at = Some(now);
    }

    /// Adds the latency of a call that failed. It can only make the instance slower: one that refuses each call
    /// at once is not a fast one.
    pub(super) fn failed(&mut self, latency: Duration, now: Instant) {
        let latency = latency.as_nanos() as f64;
        self.nanos = latency.max(self.nanos);
        self.at = Some(now);
    }

    /// The cost of one more call, with `in_flight` calls that are not answered yet.
    pub(super) fn cost(&self, in_flight: u32, now: Instant) -> f64 {
        match self.at {
            None if in_flight == 0 => 0.0,
            None => UNKNOWN + f64::from(in_flight),
            // Without calls it decays to 0, so that an instance which was slow once is called again.
            Some(_) => self.nanos * self.kept(now) * (f64::from(in_flight) + 1.0),
        }
    }

    fn kept(&self, now: Instant) -> f64 {
        let age = self
            .at
            .map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn millis(cost: f64) -> f64 {
        cost / 1e6
    }

    #[test]
    fn a_peak_counts_at_once_and_decays_with_time() {
        let start = Instant::now();
        let mut latency = PeakEwma::default();
        latency.succeeded(10 * MS, start);
        assert_eq!(millis(latency.cost(0, start)), 10.0);
        latency.succeeded(100 * MS, start);
        assert_eq!(millis(latency.cost(0, start)), 100.0);
        let later = start + DECAY;
        assert!((millis(latency.cost(0, later)) - 36.79).abs() < 0.01);
        latency.succeeded(10 * MS, later);
        // 100 / e + 10 (1 - 1 / e)
        assert!((millis(latency.cost(0, later)) - 43.11).abs() < 0.01);
    }

    #[test]
    fn the_cost_grows_with_the_calls_in_flight() {
        let start = Instant::now();
        let mut latency = PeakEwma::default();
        assert_eq!(latency.cost(0, start), 0.0);
        assert!(
            latency.cost(1, start) >= UNKNOWN,
            "the first call is awaited"
        );
        for calls in 1..5 {
            let more = latency.cost(calls + 1, start) - latency.cost(calls, start);
            assert_eq!(more, 1.0, "each call counts as much as the others");
        }
        latency.succeeded(2 * MS, start);
        assert_eq!(millis(latency.cost(3, start)), 8.0);
        assert!(latency.cost(u32::MAX, start).is_finite());
    }

    #[test]
    fn a_fast_failure_does_not_make_an_instance_faster() {
        let start = Instant::now();
        let mut latency = PeakEwma::default();
        latency.succeeded(50 * MS, start);
        latency.failed(MS, start);
        assert_eq!(millis(latency.cost(0, start)), 50.0);
        latency.failed(80 * MS, start);
        assert_eq!(millis(latency.cost(0, start)), 80.0);
    }

    #[test]
    fn a_clock_that_goes_back_is_harmless() {
        let start = Instant::now();
        let mut latency = PeakEwma::default();
        latency.succeeded(MS, start + DECAY);
        latency.succeeded(MS, start);
        assert_eq!(millis(latency.cost(0, start)), 1.0);
    }
}

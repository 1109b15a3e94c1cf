//! When a check is probed: interval with jitter, timeout, one probe at a time. Pure.

use std::time::{Duration, Instant};

/// The interval of a check that has not passed yet, if its own interval is longer. A program that
/// starts is then noticed within a second.
const START_INTERVAL: Duration = Duration::from_secs(1);

/// The part of the interval by which the time between two probes varies in each direction, so that
/// the probes of many processes do not arrive together.
const JITTER: f64 = 0.1;

/// A look that is later than this shows that the process itself did not run, as in a stopped container.
/// What did not happen meanwhile is then no failure of what is checked.
pub(crate) const STALL: Duration = Duration::from_secs(1);

/// The next step of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeStep {
    /// Start the probe with this number.
    Start(u64),
    /// The probe with this number had no result in time. Its result is ignored if it comes later.
    TimedOut(u64),
    /// Nothing before this time.
    Wait(Instant),
}

/// The times of the probes of one check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeSchedule {
    interval: Duration,
    timeout: Duration,
    next: Instant,
    number: u64,
    /// The deadline of the running probe.
    running: Option<Instant>,
}

impl ProbeSchedule {
    /// Creates the schedule of a check whose first probe is due at once.
    pub(crate) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        ProbeSchedule {
            interval,
            timeout,
            next: now,
            number: 0,
            running: None,
        }
    }

    /// Returns the next step. `random` is in 0..1.
    pub(crate) fn step(&mut self, is_starting: bool, now: Instant, random: f64) -> ProbeStep {
        match self.running {
            Some(deadline) if now >= deadline && now < deadline + STALL => {
                self.running = None;
                ProbeStep::TimedOut(self.number)
            }
            Some(deadline) if now < deadline => ProbeStep::Wait(deadline),
            // After a stall another probe takes the place of the one that runs.
            running if running.is_some() || now >= self.next => {
                let interval = match is_starting {
                    true => self.interval.min(START_INTERVAL),
                    false => self.interval,
                };
                let factor = 1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0);
                self.next = now + interval.mul_f64(factor);
                self.number += 1;
                self.running = Some(now + self.timeout);
                ProbeStep::Start(self.number)
            }
            _ => ProbeStep::Wait(self.next),
        }
    }

    /// Notes that a probe ended. Returns whether its result counts: it does not after its timeout.
    pub(crate) fn ended(&mut self, number: u64) -> bool {
        number == self.number && self.running.take().is_some()
    }

    /// Whether the running probe should have ended long ago, so that its failure may be that of a process
    /// that did not run. A further probe is then started in its place.
    pub(crate) fn has_stalled(&self, now: Instant) -> bool {
        self.running.is_some_and(|deadline| now >= deadline + STALL)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_probe_starts_at_once_and_the_next_one_an_interval_later() {
        let now = Instant::now();
        let mut schedule = ProbeSchedule::new(10 * SECOND, SECOND, now);
        assert_eq!(schedule.step(false, now, 0.5), ProbeStep::Start(1));
        assert_eq!(
            schedule.step(false, now, 0.5),
            ProbeStep::Wait(now + SECOND)
        );
        assert!(schedule.ended(1));
        assert!(!schedule.ended(1), "a result counts once");
        let next = now + 10 * SECOND;
        assert_eq!(
            schedule.step(false, now + SECOND, 0.5),
            ProbeStep::Wait(next)
        );
        assert_eq!(schedule.step(false, next, 0.5), ProbeStep::Start(2));
        assert!(!schedule.ended(1), "the result of an earlier probe");
    }

    #[test]
    fn a_probe_without_a_result_times_out_once_and_its_late_result_is_ignored() {
        let now = Instant::now();
        let mut schedule = ProbeSchedule::new(10 * SECOND, SECOND, now);
        schedule.step(false, now, 0.5);
        let late = now + SECOND;
        assert_eq!(schedule.step(false, late, 0.5), ProbeStep::TimedOut(1));
        assert!(!schedule.ended(1));
        let next = now + 10 * SECOND;
        assert_eq!(schedule.step(false, late, 0.5), ProbeStep::Wait(next));
    }

    #[test]
    fn a_probe_that_runs_while_the_process_is_stopped_does_not_count() {
        let now = Instant::now();
        let mut schedule = ProbeSchedule::new(10 * SECOND, SECOND, now);
        schedule.step(false, now, 0.5);
        let late = now + SECOND + STALL;
        assert!(!schedule.has_stalled(late - Duration::from_millis(1)));
        assert!(schedule.has_stalled(late));
        assert_eq!(schedule.step(false, late, 0.5), ProbeStep::Start(2));
        assert!(!schedule.has_stalled(late));
        assert!(!schedule.ended(1));
        assert!(schedule.ended(2));
    }

    #[test]
    fn a_check_that_has_not_passed_is_probed_every_second() {
        let now = Instant::now();
        let mut schedule = ProbeSchedule::new(10 * SECOND, SECOND, now);
        schedule.step(true, now, 0.5);
        assert!(schedule.ended(1));
        assert_eq!(schedule.step(true, now, 0.5), ProbeStep::Wait(now + SECOND));
    }

    proptest! {
        /// However late the steps are taken, probes do not overlap, and two of them are at least nine
        /// tenths of an interval apart.
        #[test]
        fn probes_are_an_interval_apart_and_never_overlap(
            delays in prop::collection::vec((0_u64..3000, 0.0_f64..1.0, any::<bool>()), 1..200),
        ) {
            let mut now = Instant::now();
            let mut schedule = ProbeSchedule::new(SECOND, SECOND / 2, now);
            let (mut running, mut started): (Option<u64>, Option<Instant>) = (None, None);
            for (delay, random, ends) in delays {
                match schedule.step(false, now, random) {
                    ProbeStep::Start(number) => {
                        // Only a stall leaves a probe behind.
                        let since = started.map(|before| now - before);
                        prop_assert!(running.is_none() || since >= Some(SECOND / 2 + STALL));
                        prop_assert!(since.is_none_or(|since| since >= SECOND.mul_f64(0.9)));
                        (running, started) = (Some(number), Some(now));
                    }
                    ProbeStep::TimedOut(number) => {
                        prop_assert_eq!(running.take(), Some(number));
                        prop_assert!(now - started.unwrap() >= SECOND / 2);
                    }
                    ProbeStep::Wait(until) => prop_assert!(until > now),
                }
                if ends && let Some(number) = running.take() {
                    prop_assert!(schedule.ended(number));
                }
                now += Duration::from_millis(delay);
            }
        }
    }
}

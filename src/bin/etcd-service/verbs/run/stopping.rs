//! How `run` ends: drain, stop, kill. Pure.

use std::time::{Duration, Instant};

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Mark the instance as draining.
    Drain,
    /// Stop the command: SIGTERM, and SIGKILL later.
    Stop,
    /// Kill the command.
    Kill,
}

/// The course of the end.
#[derive(Debug)]
pub(super) struct Stopping {
    drain_time: Duration,
    last: Option<Step>,
    drained_at: Option<Instant>,
}

impl Stopping {
    pub(super) fn new(drain_time: Duration) -> Self {
        Stopping {
            drain_time,
            last: None,
            drained_at: None,
        }
    }

    /// A signal asks for the end. An instance that is not in etcd has nobody who calls it.
    pub(super) fn asked(&mut self, now: Instant, is_registered: bool) -> Option<Step> {
        let step = match self.last {
            None if self.drain_time.is_zero() || !is_registered => Step::Stop,
            None => {
                self.drained_at = Some(now + self.drain_time);
                Step::Drain
            }
            Some(Step::Drain) => Step::Stop,
            Some(Step::Stop | Step::Kill) => Step::Kill,
        };
        if step != Step::Drain {
            self.drained_at = None;
        }
        self.last = Some(step);
        Some(step)
    }

    /// When the draining ends.
    pub(super) fn due(&self) -> Option<Instant> {
        self.drained_at
    }

    /// Time has passed.
    pub(super) fn passed(&mut self, now: Instant) -> Option<Step> {
        self.drained_at.take_if(|at| *at <= now)?;
        self.last = Some(Step::Stop);
        Some(Step::Stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(5);

    #[test]
    fn a_signal_drains_and_time_stops() {
        let now = Instant::now();
        let mut stopping = Stopping::new(DRAIN);
        assert_eq!((stopping.due(), stopping.passed(now)), (None, None));
        assert_eq!(stopping.asked(now, true), Some(Step::Drain));
        assert_eq!(stopping.due(), Some(now + DRAIN));
        assert_eq!(stopping.passed(now), None);
        assert_eq!(stopping.passed(now + DRAIN), Some(Step::Stop));
        assert_eq!((stopping.due(), stopping.passed(now + DRAIN)), (None, None));
        assert_eq!(stopping.asked(now + DRAIN, true), Some(Step::Kill));
    }

    #[test]
    fn further_signals_skip_the_waits() {
        let now = Instant::now();
        let mut stopping = Stopping::new(DRAIN);
        let steps = [(); 4].map(|()| stopping.asked(now, true));
        assert_eq!(
            steps,
            [Step::Drain, Step::Stop, Step::Kill, Step::Kill].map(Some)
        );
        assert_eq!((stopping.due(), stopping.passed(now + DRAIN)), (None, None));
        let mut at_once = Stopping::new(Duration::ZERO);
        assert_eq!(at_once.asked(now, true), Some(Step::Stop));
        let mut unregistered = Stopping::new(DRAIN);
        assert_eq!(unregistered.asked(now, false), Some(Step::Stop));
    }
}

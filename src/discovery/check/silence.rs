//! When the silence of a heartbeat is a failure. Pure.

use std::time::{Duration, Instant};

use super::probe_schedule::STALL;

/// The beats that were counted, and the time of the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beats {
    pub(crate) count: u64,
    pub(crate) last: Option<Instant>,
}

/// The next result of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SilenceStep {
    /// There was a beat since the last look.
    Beat,
    /// There was none for the whole time.
    Silent,
    /// Nothing before this time, unless there is a beat.
    Wait(Instant),
}

/// The time since the last beat or the last failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    within: Duration,
    since: Instant,
    seen: u64,
}

impl Silence {
    pub(crate) fn new(within: Duration, now: Instant) -> Self {
        Silence {
            within,
            since: now,
            seen: 0,
        }
    }

    /// Returns the next result. A silence that continues is a failure again each time its limit has
    /// passed.
    pub(crate) fn step(&mut self, beats: Beats, now: Instant) -> SilenceStep {
        if beats.count != self.seen {
            self.seen = beats.count;
            self.since = beats.last.unwrap_or(now);
            return SilenceStep::Beat;
        }
        let end = self.since + self.within;
        if now < end {
            return SilenceStep::Wait(end);
        }
        self.since = now;
        if now < end + STALL {
            return SilenceStep::Silent;
        }
        // The program could not beat while the process did not run.
        SilenceStep::Wait(now + self.within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_fails_once_per_limit_and_a_beat_ends_it() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut silence = Silence::new(Duration::from_secs(10), begin);
        let mut beats = Beats::default();
        assert_eq!(silence.step(beats, at(9)), SilenceStep::Wait(at(10)));
        assert_eq!(silence.step(beats, at(10)), SilenceStep::Silent);
        assert_eq!(silence.step(beats, at(10)), SilenceStep::Wait(at(20)));
        beats = Beats {
            count: 3,
            last: Some(at(12)),
        };
        assert_eq!(silence.step(beats, at(15)), SilenceStep::Beat);
        assert_eq!(silence.step(beats, at(15)), SilenceStep::Wait(at(22)));
        assert_eq!(silence.step(beats, at(22)), SilenceStep::Silent);
    }

    #[test]
    fn silence_while_the_process_is_stopped_is_no_failure() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut silence = Silence::new(Duration::from_secs(10), begin);
        let beats = Beats::default();
        assert_eq!(silence.step(beats, at(11)), SilenceStep::Wait(at(21)));
        assert_eq!(silence.step(beats, at(21)), SilenceStep::Silent);
        assert_eq!(silence.step(beats, at(100)), SilenceStep::Wait(at(110)));
    }

    #[test]
    fn a_late_look_sees_the_beat_and_then_the_silence_after_it() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut silence = Silence::new(Duration::from_secs(10), begin);
        let beats = Beats {
            count: 1,
            last: Some(at(1)),
        };
        assert_eq!(silence.step(beats, at(11)), SilenceStep::Beat);
        assert_eq!(silence.step(beats, at(11)), SilenceStep::Silent);
    }
}

//! The pacing of progress requests.

use std::time::{Duration, Instant};

/// The server does not answer a progress request while any watch of the stream is catching up, so the
/// request is repeated: first after this time, then less and less often.
const REPEAT_FIRST: Duration = Duration::from_millis(50);
const REPEAT_MAX: Duration = Duration::from_secs(2);

/// Counts the progress requests of a stream and their answers, and decides when to repeat one.
#[derive(Debug)]
pub(super) struct ProgressRequests {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) sent_at: Option<Instant>,
    /// The number of answers before the last request.
    answered_before: u64,
    repeat_after: Duration,
}

impl ProgressRequests {
    pub(super) fn new() -> Self {
        ProgressRequests {
            sent: 0,
            answered: 0,
            sent_at: None,
            answered_before: 0,
            repeat_after: REPEAT_FIRST,
        }
    }

    /// Begins the counts of a new stream.
    pub(super) fn stream_opened(&mut self) {
        (self.sent, self.answered, self.sent_at) = (0, 0, None);
        self.answered_before = 0;
    }

    pub(super) fn record(&mut self, now: Instant) {
        self.sent += 1;
        self.sent_at = Some(now);
        self.answered_before = self.answered;
    }

    /// Whether there was no answer since the last request.
    pub(super) fn is_unanswered(&self) -> bool {
        self.sent_at.is_some() && self.answered == self.answered_before
    }

    /// Repeats quickly again: another watch waits for progress.
    pub(super) fn reset_pace(&mut self) {
        self.repeat_after = REPEAT_FIRST;
    }

    /// Doubles the time to the next repetition, if this is one.
    pub(super) fn slow_down(&mut self) {
        if self.sent_at.is_some() {
            self.repeat_after = (self.repeat_after * 2).min(REPEAT_MAX);
        }
    }

    /// The time at which the last request may be repeated; `None` when none was sent.
    pub(super) fn repeat_at(&self) -> Option<Instant> {
        self.sent_at.map(|at| at + self.repeat_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_become_slower_up_to_2_s_and_are_quick_again_when_asked() {
        let now = Instant::now();
        let mut requests = ProgressRequests::new();
        // The first request is no repetition.
        requests.slow_down();
        assert_eq!(requests.repeat_at(), None);
        for _ in 0..2 {
            for wait in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
                requests.record(now);
                let due = now + Duration::from_millis(wait);
                assert_eq!(requests.repeat_at(), Some(due));
                requests.slow_down();
            }
            requests.reset_pace();
        }
    }

    #[test]
    fn the_requests_of_a_stream_are_not_those_of_the_next_one() {
        let now = Instant::now();
        let mut requests = ProgressRequests::new();
        assert!(!requests.is_unanswered());
        requests.record(now);
        assert!(requests.is_unanswered());
        requests.answered += 1;
        assert!(!requests.is_unanswered());
        requests.record(now);
        assert!(requests.is_unanswered());
        requests.stream_opened();
        assert!(!requests.is_unanswered());
        assert_eq!((requests.sent, requests.answered), (0, 0));
        assert_eq!(requests.repeat_at(), None);
        requests.record(now);
        assert!(requests.is_unanswered());
    }
}

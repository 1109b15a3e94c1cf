//! Whether a range stream is tried again after failures.

use super::range_stream::RangeStreamEnd;

/// Counts the range streams that failed, and decides whether another one is tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RangeStreamAttempts {
    failures: u32,
}

impl RangeStreamAttempts {
    /// After this many consecutive failures, the range is read by pages only.
    const MAX_FAILURES: u32 = 3;

    pub(crate) fn may_try(self) -> bool {
        self.failures < RangeStreamAttempts::MAX_FAILURES
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn failed(&mut self, end: RangeStreamEnd) {
        self.failures = match end {
            RangeStreamEnd::Unsupported => RangeStreamAttempts::MAX_FAILURES,
            RangeStreamEnd::Failed => self.failures.saturating_add(1),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_tried_once_where_unsupported_and_three_times_where_they_fail() {
        let mut attempts = RangeStreamAttempts::default();
        for _ in 0..2 {
            attempts.failed(RangeStreamEnd::Failed);
            assert!(attempts.may_try());
        }
        attempts.succeeded();
        attempts.failed(RangeStreamEnd::Failed);
        assert!(attempts.may_try(), "not in a row");
        attempts.failed(RangeStreamEnd::Unsupported);
        attempts.failed(RangeStreamEnd::Failed);
        assert!(!attempts.may_try());
    }
}

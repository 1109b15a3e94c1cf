//! The state of one check: results in, rise and fall counts decide. Pure.

use std::time::Instant;

/// Whether a check passes.
///
/// ```
/// use etcd_blocking::health::CheckStatus;
///
/// assert_eq!(CheckStatus::Failing.to_string(), "failing");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckStatus {
    /// It has not passed yet, and did not fail often enough to count as failing.
    Starting,
    /// It passes.
    Passing,
    /// It fails.
    Failing,
}

impl CheckStatus {
    /// Returns the name: `starting`, `passing` or `failing`.
    pub const fn as_str(self) -> &'static str {
        match self {
            CheckStatus::Starting => "starting",
            CheckStatus::Passing => "passing",
            CheckStatus::Failing => "failing",
        }
    }
}

impl std::fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The status of one check, computed from its results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckState {
    rise: u32,
    fall: u32,
    /// Before this time, failures of a check that never passed are not counted.
    grace_until: Instant,
    status: CheckStatus,
    /// The number of consecutive results that speak against the status.
    against: u32,
}

impl CheckState {
    /// Creates the state of a check without results.
    ///
    /// `rise` successes in a row end a failure, and `fall` failures in a row begin one. The first
    /// success of a check that is starting suffices, as in Envoy.
    pub(crate) fn new(rise: u32, fall: u32, grace_until: Instant) -> Self {
        CheckState {
            rise,
            fall,
            grace_until,
            status: CheckStatus::Starting,
            against: 0,
        }
    }

    pub(crate) fn status(&self) -> CheckStatus {
        self.status
    }

    /// Counts a result. Returns whether the status changed.
    pub(crate) fn on(&mut self, passed: bool, now: Instant) -> bool {
        let (counts, needed, next) = match self.status {
            CheckStatus::Starting if passed => (true, 1, CheckStatus::Passing),
            CheckStatus::Starting => (now >= self.grace_until, self.fall, CheckStatus::Failing),
            CheckStatus::Passing => (!passed, self.fall, CheckStatus::Failing),
            CheckStatus::Failing => (passed, self.rise, CheckStatus::Passing),
        };
        self.against = if counts { self.against + 1 } else { 0 };
        let changes = counts && self.against >= needed;
        if changes {
            self.status = next;
            self.against = 0;
        }
        changes
    }
}

#[cfg(test)]
mod tests;

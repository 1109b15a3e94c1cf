//! The health of a registered instance, as a reader sees it.

use std::time::Instant;

use super::check_state::CheckStatus;

/// The health of a registered instance at one moment, returned by
/// [`Registration::health`](crate::Registration::health).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// `Passing` when all checks pass, `Failing` when one of them fails, otherwise `Starting`.
    pub status: CheckStatus,
    /// When the status changed last.
    pub since: Instant,
    /// The check that does not pass and why; `None` while all pass. It is the published reason.
    pub reason: Option<String>,
    /// Each check, in the order in which they were added.
    pub checks: Vec<CheckHealth>,
}

impl Health {
    /// Returns whether all checks pass.
    pub fn is_passing(&self) -> bool {
        self.status == CheckStatus::Passing
    }
}

/// The state of one check at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckHealth {
    /// The name of the check, such as `tcp 10.0.0.5:8080`.
    pub name: String,
    /// Its status.
    pub status: CheckStatus,
    /// When the status changed last.
    pub since: Instant,
    /// The failure of the last result; `None` if it was a success or there was none.
    pub last_error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_status_passing_is_passing() {
        let of = |status| Health {
            status,
            since: Instant::now(),
            reason: None,
            checks: Vec::new(),
        };
        assert!(of(CheckStatus::Passing).is_passing());
        assert!(!of(CheckStatus::Starting).is_passing());
        assert!(!of(CheckStatus::Failing).is_passing());
    }
}

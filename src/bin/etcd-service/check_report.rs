//! Prints the changes of the results of a registration's health checks.

use etcd_blocking::Registration;
use etcd_blocking::health::CheckStatus;

/// The last result of the checks that was said.
#[derive(Debug, Default)]
pub(crate) struct CheckReport {
    was_passing: Option<bool>,
}

impl CheckReport {
    /// Returns a sentence when the checks have begun to pass or to fail. Nothing is said before they have run.
    pub(crate) fn news(&mut self, registration: &Registration) -> Option<String> {
        let health = registration.health()?;
        let text = match health.status {
            CheckStatus::Passing => "its checks pass".to_owned(),
            CheckStatus::Failing => format!("its checks fail: {}", health.reason?),
            // They have not run often enough.
            _ => return None,
        };
        let is_passing = health.status == CheckStatus::Passing;
        (self.was_passing.replace(is_passing) != Some(is_passing)).then_some(text)
    }
}

//! Counts of events during a run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use etcd_blocking::{Error, ErrorKind};

/// The kinds of errors that are allowed while there is no leader. Any other kind (an invalid token, a
/// certificate, a protocol error) is a bug.
const ALLOWED: [ErrorKind; 4] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::LeaseExpired,
    ErrorKind::LeaseNotFound,
];

#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub(super) fn count(&self, what: &str) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    /// The sum of the counts whose names begin with this.
    pub(super) fn total(&self, what: &str) -> u64 {
        let counts = self.0.lock().unwrap();
        let matching = counts.iter().filter(|(name, _)| name.starts_with(what));
        matching.map(|(_, count)| count).sum()
    }

    #[track_caller]
    pub(super) fn failed(&self, what: &str, error: &Error) {
        assert!(ALLOWED.contains(&error.kind()), "{what}: {error}");
        let doubt = if error.outcome_unknown() {
            ", in doubt"
        } else {
            ""
        };
        self.count(&format!("{what}: {:?}{doubt}", error.kind()));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &*self.0.lock().unwrap() {
            writeln!(f, "{count:8} {what}")?;
        }
        Ok(())
    }
}

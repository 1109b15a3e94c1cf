//! Counts of events during a run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use etcd_blocking::{Error, ErrorKind};

/// What a call may fail with while a leader is dead. Everything else (a token that is not valid any
/// more, a certificate, a protocol) is a bug.
const MAY_HAPPEN: [ErrorKind; 4] = [
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

    /// How often whatever begins like this happened.
    pub(super) fn total(&self, what: &str) -> u64 {
        let counts = self.0.lock().unwrap();
        let alike = counts.iter().filter(|(name, _)| name.starts_with(what));
        alike.map(|(_, count)| count).sum()
    }

    #[track_caller]
    pub(super) fn failed(&self, what: &str, error: &Error) {
        assert!(MAY_HAPPEN.contains(&error.kind()), "{what}: {error}");
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

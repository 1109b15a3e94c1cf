//! A check with all its settings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check_state::CheckState;
use super::closure_thread::CheckClosure;
use super::heartbeat::Pulse;
use crate::rpc::probe::Probe;

/// A valid check, ready to run.
pub(crate) struct CheckPlan {
    pub(crate) name: String,
    pub(crate) source: Source,
    /// For a heartbeat, the silence that is a failure.
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) rise: u32,
    pub(crate) fall: u32,
    pub(crate) start_grace: Duration,
}

/// Where the results of a check come from.
pub(crate) enum Source {
    Probe(Probe),
    Closure(Box<CheckClosure>),
    Heartbeat(Arc<Pulse>),
}

impl CheckPlan {
    /// The name, and the state without results.
    pub(crate) fn state(&self, now: Instant) -> (String, CheckState) {
        let grace_until = now + self.start_grace;
        let state = CheckState::new(self.rise, self.fall, grace_until);
        (self.name.clone(), state)
    }
}

impl std::fmt::Debug for CheckPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckPlan")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

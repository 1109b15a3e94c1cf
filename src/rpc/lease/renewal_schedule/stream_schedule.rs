//! The schedule of one renewal stream: its state, the leases that wait for it, and its unanswered
//! renewals.

use std::collections::BTreeSet;
use std::time::Duration;

use super::stream_role::StreamRole;
use super::unanswered_renewals::UnansweredRenewals;
use crate::types::LeaseId;
use crate::util::backoff::Backoff;
use crate::util::boot_time::BootTime;

/// The waits between streams. The first one is reopened at once.
const REOPEN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500));

/// The state of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum StreamState {
    Closed,
    BackingOff { until: BootTime },
    Opening,
    Open,
}

/// The schedule of one stream.
#[derive(Debug)]
pub(super) struct StreamSchedule {
    pub(super) state: StreamState,
    /// The leases that must be renewed now, ordered by the time at which they end.
    pub(super) ready: BTreeSet<(BootTime, LeaseId)>,
    pub(super) unanswered: UnansweredRenewals,
    pub(super) reopen: Backoff,
    /// The stream made progress since it last broke: the next one may be opened at once.
    pub(super) progress: bool,
}

impl StreamSchedule {
    pub(super) fn new() -> Self {
        StreamSchedule {
            state: StreamState::Closed,
            ready: BTreeSet::new(),
            unanswered: UnansweredRenewals::default(),
            reopen: REOPEN,
            progress: true,
        }
    }

    /// Whether the stream must be open: the shared one while there are leases, the isolated one while
    /// one of its leases must be renewed.
    pub(super) fn is_needed(&self, role: StreamRole) -> bool {
        // The shared stream stays open between renewals, and the other one only while it has a
        // lease.
        role == StreamRole::Shared || !self.ready.is_empty() || self.unanswered.len() > 0
    }

    /// Records an answer.
    pub(super) fn answered(&mut self, now: BootTime) {
        self.unanswered.answered(now);
        self.progress = true;
        // The stream works, so the next failure is the first of a series.
        self.reopen.reset();
    }

    /// The time at which the next tick is due, if nothing else happens.
    pub(super) fn wake_at(&self) -> Option<BootTime> {
        match self.state {
            StreamState::BackingOff { until } => Some(until),
            StreamState::Open => self.unanswered.check_at,
            StreamState::Closed | StreamState::Opening => None,
        }
    }

    /// The time for which the first answer has been awaited, if it is late at `now`.
    pub(super) fn late(&mut self, now: BootTime) -> Option<Duration> {
        if self.state != StreamState::Open || self.unanswered.check_at.is_none_or(|at| at > now) {
            return None;
        }
        let late = self.unanswered.first_late();
        match late {
            Some((at, since)) if at <= now => Some(now.since(since)),
            _ => {
                // Earlier renewals were answered: the next check is due at the first that is still
                // open.
                self.unanswered.check_at = late.map(|(at, _)| at);
                None
            }
        }
    }
}

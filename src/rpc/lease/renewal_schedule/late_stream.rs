//! The stream whose answers are late, and which is still read while another member is asked.

use std::collections::HashMap;

use super::unanswered_renewals::UnansweredRenewals;
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

/// The times at which the renewals were sent that the late stream has not answered.
///
/// A member that answers late may still be the first one that answers: during an election no member
/// answers, and a new connection can take longer than the election.
#[derive(Debug)]
pub(super) struct LateStream {
    sent: HashMap<LeaseId, BootTime>,
}

impl LateStream {
    pub(super) fn of(unanswered: &UnansweredRenewals) -> Self {
        LateStream {
            sent: unanswered.sent_at().collect(),
        }
    }

    /// Records an answer. Returns the time at which its renewal was sent.
    pub(super) fn answered(&mut self, lease: LeaseId) -> Option<BootTime> {
        self.sent.remove(&lease)
    }
}

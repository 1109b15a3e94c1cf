//! The unanswered renewals of a stream, and when the first of them is late.

use std::collections::HashMap;
use std::time::Duration;

use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

/// The unanswered renewals of a stream, including those of leases that were removed since.
#[derive(Debug, Default)]
pub(super) struct UnansweredRenewals {
    sent: HashMap<LeaseId, UnansweredRenewal>,
    count: u64,
    /// The time at which the stream last answered. Renewals are not late while it answers others.
    last_answer_at: BootTime,
    /// No answer is late before this time.
    pub(super) check_at: Option<BootTime>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct UnansweredRenewal {
    pub(super) at: BootTime,
    answer_timeout: Duration,
    number: u64,
}

impl UnansweredRenewals {
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn contains(&self, lease: LeaseId) -> bool {
        self.sent.contains_key(&lease)
    }

    pub(super) fn add(&mut self, lease: LeaseId, at: BootTime, answer_timeout: Duration) {
        self.count += 1;
        let number = self.count;
        self.sent.insert(
            lease,
            UnansweredRenewal {
                at,
                answer_timeout,
                number,
            },
        );
        let check = at + answer_timeout;
        self.check_at = Some(self.check_at.map_or(check, |first| first.min(check)));
    }

    /// Records an answer on the stream.
    pub(super) fn answered(&mut self, now: BootTime) {
        self.last_answer_at = now;
    }

    pub(super) fn remove(&mut self, lease: LeaseId) -> Option<UnansweredRenewal> {
        let removed = self.sent.remove(&lease);
        if self.sent.is_empty() {
            // There is nothing to check, so the client is not woken for it.
            self.check_at = None;
        }
        removed
    }

    /// The leases, each with the time at which its renewal was sent.
    pub(super) fn sent_at(&self) -> impl Iterator<Item = (LeaseId, BootTime)> {
        self.sent.iter().map(|(lease, sent)| (*lease, sent.at))
    }

    /// The renewal that was sent first. The server handles them in order.
    pub(super) fn first(&self) -> Option<LeaseId> {
        let first = self.sent.iter().min_by_key(|(_, sent)| sent.number);
        first.map(|(lease, _)| *lease)
    }

    /// Removes and returns all of them.
    pub(super) fn drain(&mut self) -> Vec<LeaseId> {
        self.check_at = None;
        self.sent.drain().map(|(lease, _)| lease).collect()
    }

    /// The time at which the first answer is late if no other comes before, and the time since which it is awaited.
    pub(super) fn first_late(&self) -> Option<(BootTime, BootTime)> {
        let late = |sent: &UnansweredRenewal| {
            let since = sent.at.max(self.last_answer_at);
            (since + sent.answer_timeout, since)
        };
        self.sent.values().map(late).min()
    }
}

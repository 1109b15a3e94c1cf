//! Follows the lease of a registrar, and takes another when one of the keys on it spoils it.
//!
//! etcd (since 3.5.30, 3.6.11 and 3.7) denies whatever is done with a lease to a user who may not
//! write every key that hangs on it: it is not renewed, and no key can be put under it. So one key
//! whose permission is withdrawn, or that may not be deleted, would take all others of the registrar
//! with it. Such a lease is *retired*: the keys that may be written move to a new one, and what
//! cannot be moved ends with the old one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RegistrarTask;
use crate::discovery::register::entry::Entry;
use crate::discovery::register::lease_validity::LeaseValidity;
use crate::discovery::register::refusal;
use crate::discovery::register::registration::Loss;
use crate::discovery::register::shared_lease::{LeaseEvent, SharedLease};
use crate::types::LeaseId;

/// A lease that is not renewed any more.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) id: LeaseId,
    pub(super) validity: Arc<LeaseValidity>,
}

impl Retired {
    pub(super) fn due(&self, now: Instant) -> Instant {
        now + self.validity.valid_until().remaining() + Duration::from_millis(1)
    }
}

impl RegistrarTask {
    pub(super) fn follow_lease(&mut self, now: Instant) {
        loop {
            match self.shared_lease.work(now, self.staying > 0) {
                LeaseEvent::None => break,
                LeaseEvent::Granted(lease) => {
                    self.leases.current = Some(lease);
                    self.to_send.extend(self.entries.keys());
                }
                LeaseEvent::Lost(loss) => self.lease_lost(loss),
                LeaseEvent::Trouble(error) => {
                    let is_final = refusal::is_final(error.kind());
                    self.validity.set_trouble(Some(error));
                    if is_final {
                        // Whoever waits need not wait for another try.
                        self.to_show.extend(self.entries.keys());
                    }
                }
            }
        }
        let is_suspect = self.validity.is_suspect();
        if std::mem::replace(&mut self.shown_suspect, is_suspect) != is_suspect {
            let placed =
                |(number, entry): (&u64, &Entry)| entry.owned_key.placed().map(|_| *number);
            self.to_show.extend(self.entries.iter().filter_map(placed));
        }
        if is_suspect {
            // Renewals that are denied look like renewals that do not get through.
            self.check_lease(now);
        }
        if let Some(denied) = self.lease_check.answer()
            && self.leases.current == Some(denied)
        {
            self.retire_lease(now);
        }
        self.end_retired();
    }

    pub(super) fn lease_lost(&mut self, loss: Loss) {
        let Some(lost) = self.leases.lost() else {
            return;
        };
        for entry in self.entries.values_mut() {
            entry.lease_lost(lost, loss);
        }
        self.mark_all_dirty();
    }

    /// Asks whether the lease is denied to us.
    pub(super) fn check_lease(&mut self, now: Instant) {
        if let Some(lease) = self.leases.current {
            self.lease_check.ask(lease, now);
        }
    }

    /// Moves what can be moved to another lease.
    pub(super) fn retire_lease(&mut self, now: Instant) {
        let Some(id) = self.leases.retire() else {
            return;
        };
        let validity = Arc::new(LeaseValidity::new(self.ttl));
        let retired = std::mem::replace(&mut self.validity, Arc::clone(&validity));
        retired.retire();
        self.retired.push(Retired {
            id,
            validity: retired,
        });
        // With the old one goes its renewal.
        self.shared_lease = SharedLease::new(self.client.clone(), self.ttl, validity);
        self.shown_suspect = true;
        for entry in self.entries.values_mut() {
            entry.owned_key.lease_retired(id);
        }
        // Those who were refused may have been refused for the lease.
        self.plan.forgive();
        self.mark_all_dirty();
        self.follow_lease(now);
    }

    /// What is left on a lease ends with it.
    fn end_retired(&mut self) {
        let is_over = |retired: &Retired| retired.validity.valid_until().has_passed();
        let over: Vec<_> = self
            .retired
            .extract_if(.., |retired| is_over(retired))
            .collect();
        for retired in over {
            self.leases.retired_lost(retired.id);
            for (number, entry) in &mut self.entries {
                if entry.retired_lost(retired.id) {
                    self.to_send.insert(*number);
                    self.to_show.insert(*number);
                }
            }
        }
    }

    /// Asks what is in the way of a request that is not answered.
    pub(super) fn look_around(&mut self, now: Instant) {
        let since = self.waits_since();
        if let Some(error) = self.probe.work(now, since) {
            self.validity.set_trouble(Some(error));
        }
    }

    pub(super) fn waits_since(&self) -> Option<Instant> {
        let batches = self.under_way.values().map(|batch| batch.since);
        batches.chain(self.shared_lease.waits_since()).min()
    }
}

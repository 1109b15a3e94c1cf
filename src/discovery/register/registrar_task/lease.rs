//! Follows the lease of a registrar, and replaces it when etcd denies its use.
//!
//! etcd (since 3.5.30, 3.6.11 and 3.7) denies every use of a lease to a user who may not write every
//! key attached to it: the lease is not renewed, and no key can be put under it. One key whose
//! permission was withdrawn, or that may not be deleted, would therefore end all registrations of the
//! registrar. Such a lease is *retired*: the keys that may be written move to a new lease, and the
//! others expire with the old one.

use std::sync::Arc;
use std::time::Instant;

use super::RegistrarTask;
use crate::discovery::register::lease_validity::LeaseValidity;
use crate::discovery::register::refusal;
use crate::discovery::register::registration::Loss;
use crate::discovery::register::retired_lease::RetiredLease;
use crate::discovery::register::shared_lease::{LeaseEvent, SharedLease};

impl RegistrarTask {
    pub(super) fn follow_lease(&mut self, now: Instant) {
        loop {
            match self.shared_lease.work(now, self.active > 0) {
                LeaseEvent::None => break,
                LeaseEvent::Granted(lease) => {
                    self.leases.current = Some(lease);
                    self.to_send.extend(self.entries.keys());
                }
                LeaseEvent::Lost(loss) => self.lease_lost(loss),
                LeaseEvent::Unrenewed => self.retire_lease(now),
                LeaseEvent::GrantFailed(error) => {
                    let is_final = refusal::is_final(error.kind());
                    self.validity.set_error(Some(error));
                    if is_final {
                        // Callers that wait need not wait for another attempt.
                        self.to_publish.extend(self.entries.keys());
                    }
                }
            }
        }
        let is_suspect = self.validity.is_suspect();
        if std::mem::replace(&mut self.published_suspect, is_suspect) != is_suspect {
            let entries = self.entries.iter();
            let stored = entries.filter(|(_, entry)| entry.keys.stored_at().is_some());
            self.to_publish.extend(stored.map(|(number, _)| *number));
        }
        if is_suspect {
            // A denied renewal cannot be distinguished from a lost one here.
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

    /// Asks whether the lease is denied to this client.
    pub(super) fn check_lease(&mut self, now: Instant) {
        if let Some(lease) = self.leases.current {
            self.lease_check.ask(lease, now);
        }
    }

    /// Retires the current lease, and moves the keys that can be moved to another one.
    pub(super) fn retire_lease(&mut self, now: Instant) {
        let Some(id) = self.leases.retire() else {
            return;
        };
        let validity = Arc::new(LeaseValidity::new(self.ttl));
        let retired = std::mem::replace(&mut self.validity, Arc::clone(&validity));
        retired.retire();
        self.retired.push(RetiredLease {
            id,
            validity: retired,
        });
        // Dropping the old one ends its renewal.
        self.shared_lease = SharedLease::new(self.client.clone(), self.ttl, validity);
        self.published_suspect = true;
        for entry in self.entries.values_mut() {
            entry.keys.lease_retired(id);
        }
        // Entries may have been refused because of the lease.
        self.plan.forgive();
        self.mark_all_dirty();
        self.follow_lease(now);
    }

    /// Removes retired leases that have expired, and with them the keys attached to them.
    fn end_retired(&mut self) {
        let is_over = |retired: &RetiredLease| retired.validity.valid_until().has_passed();
        let over: Vec<_> = self
            .retired
            .extract_if(.., |retired| is_over(retired))
            .collect();
        for retired in over {
            self.leases.retired_lost(retired.id);
            for (number, entry) in &mut self.entries {
                if entry.retired_lost(retired.id) {
                    self.to_send.insert(*number);
                    self.to_publish.insert(*number);
                }
            }
        }
    }

    /// Finds out why a request is not answered.
    pub(super) fn probe_connection(&mut self, now: Instant) {
        let since = self.waits_since();
        if let Some(error) = self.probe.work(now, since) {
            self.validity.set_error(Some(error));
        }
    }

    pub(super) fn waits_since(&self) -> Option<Instant> {
        let batches = self.in_flight.values().map(|batch| batch.since);
        batches.chain(self.shared_lease.waits_since()).min()
    }
}

//! The keys of one registration, one for each format. Pure.
//!
//! The steps that are due go into one transaction, so that readers of all formats see a change at the same
//! revision. All writes of a transaction share one condition: either all of them are executed or none.

use bytes::Bytes;

use super::key_phase::{KeyLoss, Phase, StoredAt};
use super::key_step::KeyStep;
use super::on_conflict::OnConflict;
use super::owned_key::OwnedKey;
use super::registrar_leases::RegistrarLeases;
use crate::types::{KeyValue, LeaseId, Revision};

/// The keys of one registration. There is at least one.
#[derive(Debug)]
pub(super) struct OwnedKeys(Vec<OwnedKey>);

/// A due step of one key, which is identified by its position.
pub(super) type DueStep = (usize, KeyStep);

impl OwnedKeys {
    /// Creates keys with their wanted values. A key without a value is withdrawn.
    pub(super) fn new(
        keys: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
        policy: OnConflict,
    ) -> Self {
        let keys = keys.into_iter().map(|(key, value)| {
            let is_withdrawn = value.is_none();
            let mut owned_key = OwnedKey::new(key, value.unwrap_or_default(), policy);
            if is_withdrawn {
                owned_key.withdraw();
            }
            owned_key
        });
        OwnedKeys(keys.collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &OwnedKey> {
        self.0.iter()
    }

    pub(super) fn get(&self, n: usize) -> Option<&OwnedKey> {
        self.0.get(n)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Changes the wanted values, in the order of the keys. A key without a value is withdrawn.
    pub(super) fn update(&mut self, values: impl IntoIterator<Item = Option<Bytes>>) {
        for (key, value) in self.0.iter_mut().zip(values) {
            match value {
                Some(value) => key.update(value),
                None => key.withdraw(),
            }
        }
    }

    /// Releases the keys. They are not put any more.
    pub(super) fn leave(&mut self) {
        self.0.iter_mut().for_each(OwnedKey::leave);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.0.iter().any(OwnedKey::is_leaving)
    }

    /// Whether a key was held before.
    pub(super) fn was_held(&self) -> bool {
        self.0.iter().any(OwnedKey::was_held)
    }

    /// The steps that are due, writes first. While steps are in flight, none is due.
    pub(super) fn due(&self, leases: &RegistrarLeases) -> impl Iterator<Item = DueStep> {
        let in_flight = |key: &OwnedKey| matches!(key.phase, Phase::InFlight(_));
        let is_free = !self.0.iter().any(in_flight);
        // The first write waits until all keys can be written.
        let waits = !self.was_held() && self.yielded_to().is_some();
        // A key whose state is not known must not appear later than the others.
        let reads = self
            .0
            .iter()
            .any(|key| key.due(leases) == Some(KeyStep::Read));
        // A lost key is restored before a refused update of the others is tried again.
        let restores = self.0.iter().any(|key| {
            key.writes_accepted() && matches!(key.due(leases), Some(KeyStep::Write(..)))
        });
        let due = move |writes: bool| {
            let keys = self.0.iter().enumerate().filter(move |_| is_free);
            keys.filter_map(move |(n, key)| {
                let step = key.due(leases)?;
                let is_write = matches!(step, KeyStep::Write(..));
                let is_held_back = waits || reads || restores && !key.writes_accepted();
                (is_write == writes && !(is_write && is_held_back)).then_some((n, step))
            })
        };
        due(true).chain(due(false))
    }

    /// Records that due steps were sent.
    pub(super) fn begin(&mut self, steps: &[DueStep]) {
        for (n, step) in steps {
            if let Some(key) = self.0.get_mut(*n) {
                key.begin(*step);
            }
        }
    }

    /// As [`OwnedKey::done`], for one key.
    pub(super) fn done(
        &mut self,
        n: usize,
        at: Revision,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<KeyLoss> {
        self.0.get_mut(n)?.done(at, leases, valid)
    }

    /// As [`OwnedKey::found`], for one key.
    pub(super) fn found(
        &mut self,
        n: usize,
        at: Revision,
        kv: Option<&KeyValue>,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<KeyLoss> {
        self.0.get_mut(n)?.found(at, kv, leases, valid)
    }

    /// As [`OwnedKey::event`], for one key. Also returns whether the event changed anything.
    pub(super) fn event(
        &mut self,
        n: usize,
        at: Revision,
        kv: Option<KeyValue>,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> (Option<KeyLoss>, bool) {
        let Some(key) = self.0.get_mut(n) else {
            return (None, false);
        };
        let before = (key.phase, key.stored_at());
        let loss = key.event(at, kv, leases, valid);
        // A key that is withdrawn is not missed.
        let loss = loss.filter(|_| !key.is_withdrawn());
        (loss, before != (key.phase, key.stored_at()))
    }

    /// Records that the steps in flight may or may not have been executed.
    pub(super) fn failed(&mut self) {
        self.0.iter_mut().for_each(OwnedKey::failed);
    }

    /// Records that the server refused the steps in flight. As [`OwnedKey::refused`], where `alone` means that
    /// the transaction had no step of another registration.
    pub(super) fn refused(&mut self, alone: bool) -> bool {
        let refused = self.0.iter_mut().map(|key| key.refused(alone));
        refused.fold(false, |any, is_wanted| any | is_wanted)
    }

    /// Stops deleting keys that may not be deleted. They stay until their lease expires.
    pub(super) fn abandon(&mut self) {
        let deleted = |key: &&mut OwnedKey| key.is_leaving() || key.is_withdrawn();
        let keys = self.0.iter_mut().filter(deleted);
        keys.for_each(OwnedKey::abandon);
    }

    pub(super) fn lease_lost(&mut self, lost: LeaseId) {
        self.0.iter_mut().for_each(|key| key.lease_lost(lost));
    }

    pub(super) fn lease_retired(&mut self, lease: LeaseId) {
        self.0.iter_mut().for_each(|key| key.lease_retired(lease));
    }

    /// Records that a retired lease is gone. Returns whether a key was attached to it.
    pub(super) fn retired_lost(&mut self, lost: LeaseId) -> bool {
        let attached = self.0.iter_mut().map(|key| key.retired_lost(lost));
        attached.fold(false, |any, was_attached| any | was_attached)
    }

    /// Records that events of a key may be missing.
    pub(super) fn watch_interrupted(&mut self, n: usize) {
        if let Some(key) = self.0.get_mut(n) {
            key.watch_interrupted();
        }
    }

    /// Records that events of all keys may be missing.
    pub(super) fn watches_interrupted(&mut self) {
        self.0.iter_mut().for_each(OwnedKey::watch_interrupted);
    }

    /// Whether the registrar left, and nothing of it is in etcd.
    pub(super) fn is_released(&self) -> bool {
        self.0.iter().all(|key| key.phase == Phase::Released)
    }

    /// The lease of the process that holds a key, if that is an error.
    pub(super) fn conflict(&self) -> Option<Option<LeaseId>> {
        self.0.iter().find_map(|key| match key.phase {
            Phase::Conflict(by) => Some(by),
            _ => None,
        })
    }

    /// The lease of the process to which a key was yielded.
    pub(super) fn yielded_to(&self) -> Option<LeaseId> {
        self.0.iter().find_map(|key| match key.phase {
            Phase::Yielded { to } => Some(to),
            _ => None,
        })
    }

    /// Whether all keys are withdrawn, or not yet back after that.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.0.iter().all(OwnedKey::is_out)
    }

    /// The lease and the newest revision of the keys. `None` while a key is missing that should be there. It
    /// is a lease that is no longer renewed, if a key is still attached to one.
    pub(super) fn stored_at(&self) -> Option<StoredAt> {
        let mut stored_at: Option<StoredAt> = None;
        for key in self.0.iter().filter(|key| !key.is_out()) {
            let of_key = key.stored_at()?;
            let revision = stored_at.map_or(of_key.revision, |at| at.revision.max(of_key.revision));
            let lease = match stored_at {
                Some(at) if !key.must_move() => at.lease,
                _ => of_key.lease,
            };
            stored_at = Some(StoredAt { lease, revision });
        }
        stored_at
    }

    /// The newest revision at which a key is known.
    pub(super) fn known_at(&self) -> Revision {
        let known = self.0.iter().map(OwnedKey::known_at);
        known.max().unwrap_or(Revision::NONE)
    }

    /// Whether etcd has what was sent last.
    pub(super) fn sent_is_there(&self) -> bool {
        self.0.iter().all(|key| match key.is_withdrawn() {
            true => key.phase == Phase::Withdrawn,
            false => key.sent_is_there(),
        })
    }

    /// Whether etcd has what is wanted.
    pub(super) fn wanted_is_there(&self) -> bool {
        self.0.iter().all(|key| match key.is_withdrawn() {
            true => key.phase == Phase::Withdrawn,
            false => key.wanted_is_there(),
        })
    }

    /// Whether etcd refused a wanted value.
    pub(super) fn is_refused(&self) -> bool {
        self.0.iter().any(OwnedKey::is_refused)
    }

    /// Whether the next write is one of the last accepted values.
    pub(super) fn writes_accepted(&self) -> bool {
        self.0.iter().any(OwnedKey::writes_accepted)
    }
}

#[cfg(test)]
mod tests;

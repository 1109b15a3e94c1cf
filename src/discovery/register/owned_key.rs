//! Decides the next step for one key that a registrar owns or wants to own. Pure.
//!
//! A registrar writes and deletes only under a condition, so that it never takes a key from a
//! successor: another process that registered the same instance after this one had lost it.

mod known;

use bytes::Bytes;

use super::key_phase::{KeyLoss, Phase, StoredAt};
use super::key_step::{KeyStep, WriteCondition};
use super::on_conflict::OnConflict;
use super::registrar_leases::RegistrarLeases;
use crate::types::{KeyValue, LeaseId, Revision};

/// A key, its wanted value, and its last known state in etcd.
#[derive(Debug)]
pub(super) struct OwnedKey {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    policy: OnConflict,
    pub(super) phase: Phase,
    /// The value in the last write, which may be older than the wanted one.
    last_sent: Bytes,
    /// The last value that etcd accepted.
    last_accepted: Bytes,
    /// etcd refused the wanted value.
    is_refused: bool,
    /// If the key is lost, the next write is one of the last accepted value.
    prefers_accepted: bool,
    /// The revision at which the key was last known.
    known_at: Revision,
    /// The lease and revision of the stored key, as far as known, also while another value is in flight.
    stored_at: Option<StoredAt>,
    /// It is attached to a retired lease, and must be put under the current one.
    must_move: bool,
    /// It was held before. Then it yields to a successor, whatever the policy.
    was_held: bool,
    /// The lease of this registrar that the key may be attached to.
    possible_lease: Option<LeaseId>,
    /// The value of `possible_lease` before the step in flight.
    previous_lease: Option<LeaseId>,
    leaving: bool,
    /// It must not be in etcd until it gets a value again.
    withdrawn: bool,
    /// It was withdrawn, and its next value is not in etcd yet.
    is_returning: bool,
    /// The newest event that arrived while a step was in flight.
    /// Boxed, because it is rare.
    pending_event: Option<Box<(Revision, Option<KeyValue>)>>,
}

impl OwnedKey {
    pub(super) fn new(key: Bytes, value: Bytes, policy: OnConflict) -> Self {
        OwnedKey {
            key,
            value,
            policy,
            phase: Phase::ToWrite(WriteCondition::Absent),
            last_sent: Bytes::new(),
            last_accepted: Bytes::new(),
            is_refused: false,
            prefers_accepted: false,
            known_at: Revision::NONE,
            stored_at: None,
            must_move: false,
            was_held: false,
            possible_lease: None,
            previous_lease: None,
            leaving: false,
            withdrawn: false,
            is_returning: false,
            pending_event: None,
        }
    }

    /// Changes the wanted value, and puts the key back if it was withdrawn.
    pub(super) fn update(&mut self, value: Bytes) {
        self.value = value;
        self.is_refused = false;
        self.prefers_accepted = false;
        self.is_returning |= self.withdrawn;
        self.withdrawn = false;
        if self.phase == Phase::Withdrawn {
            self.phase = Phase::ToWrite(WriteCondition::Absent);
        }
        self.rewrite_if_outdated();
    }

    /// Takes the key out of etcd until the next [`update`](OwnedKey::update).
    pub(super) fn withdraw(&mut self) {
        self.withdrawn = true;
        self.is_refused = false;
        self.prefers_accepted = false;
        self.release_if_clear();
    }

    /// Releases the key. It is not put any more.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.release_if_clear();
    }

    /// The next step, if one is due and none is in flight.
    pub(super) fn due(&self, leases: &RegistrarLeases) -> Option<KeyStep> {
        match self.phase {
            Phase::InFlight(_) | Phase::Withdrawn | Phase::Released => None,
            _ if self.leaving || self.withdrawn => self.possible_lease.map(KeyStep::Delete),
            Phase::ToWrite(expect) => Some(KeyStep::Write(expect, leases.current?)),
            Phase::ToRead => Some(KeyStep::Read),
            Phase::Held { lease, .. } if self.must_move => Some(KeyStep::Write(
                WriteCondition::OnLease(lease),
                leases.current?,
            )),
            Phase::Held { .. } | Phase::Yielded { .. } | Phase::Conflict(_) => None,
        }
    }

    /// Records that the due step was sent.
    pub(super) fn begin(&mut self, step: KeyStep) {
        self.previous_lease = self.possible_lease;
        if let KeyStep::Write(_, lease) = step {
            self.possible_lease = Some(lease);
            self.last_sent = self.next_value().clone();
        }
        self.phase = Phase::InFlight(step);
    }

    /// Records that the step was executed at revision `at`. Returns the loss of the key if a later
    /// event shows one.
    pub(super) fn done(
        &mut self,
        at: Revision,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<KeyLoss> {
        let Phase::InFlight(step) = self.phase else {
            return None;
        };
        match step {
            KeyStep::Write(_, lease) => {
                self.was_held = true;
                self.last_accepted = self.last_sent.clone();
                self.written(lease, at, leases);
            }
            KeyStep::Delete(_) => self.deleted(),
            // A read has no condition, and is answered by `found`.
            KeyStep::Read => self.phase = Phase::ToRead,
        }
        self.apply_answer(at, leases, valid)
    }

    /// Records that the condition of the step did not hold, and that etcd had `kv` at revision `at`.
    /// Returns the loss of the key if it was held before.
    pub(super) fn found(
        &mut self,
        at: Revision,
        kv: Option<&KeyValue>,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<KeyLoss> {
        let Phase::InFlight(step) = self.phase else {
            return None;
        };
        let loss = match (step, kv) {
            // It is not attached to our lease any more, so it is not ours to delete.
            (KeyStep::Delete(_), _) => {
                self.deleted();
                None
            }
            (KeyStep::Write(_, lease), Some(kv)) if is_written(kv, lease, &self.last_sent) => {
                // An earlier write of ours, whose answer was lost.
                self.was_held = true;
                self.last_accepted = self.last_sent.clone();
                self.written(lease, kv.mod_revision(), leases);
                None
            }
            (KeyStep::Write(..) | KeyStep::Read, kv) => self.observe(kv, leases, &valid),
        };
        self.apply_answer(at, leases, valid).or(loss)
    }

    /// Records that the step may or may not have been executed. The next step finds out.
    pub(super) fn failed(&mut self) {
        if let Phase::InFlight(step) = self.phase {
            self.phase = match step {
                KeyStep::Write(expect, _) => Phase::ToWrite(expect),
                // `leaving` turns the next step into a delete again.
                KeyStep::Delete(lease) => Phase::ToWrite(WriteCondition::OnLease(lease)),
                KeyStep::Read => Phase::ToRead,
            };
        }
        // The event may show a change by another process or the effect of this step.
        if self.pending_event.take().is_some()
            && let Phase::ToWrite(WriteCondition::OnLease(_)) = self.phase
        {
            self.phase = Phase::ToRead;
        }
        self.release_if_clear();
    }

    /// Records that the server refused the step, so that it was not executed. `alone` means that the
    /// transaction had no other step, so that this one is the cause. Returns whether a write of the
    /// wanted value was refused alone.
    pub(super) fn refused(&mut self, alone: bool) -> bool {
        let mut is_wanted = false;
        if let Phase::InFlight(step) = self.phase {
            // Nothing was executed, so the key is where it was before the step.
            self.possible_lease = self.previous_lease;
            if let (KeyStep::Write(..), true) = (step, alone) {
                // Only a value that etcd accepted before can replace the refused one.
                let has_old = !self.last_accepted.is_empty() && self.last_accepted != self.value;
                is_wanted = self.last_sent == self.value;
                self.is_refused |= is_wanted;
                self.prefers_accepted = has_old && is_wanted;
            }
        }
        self.failed();
        is_wanted
    }

    /// Stops deleting a key that may not be deleted. It stays until its lease expires.
    pub(super) fn abandon(&mut self) {
        self.possible_lease = None;
        self.release_if_clear();
    }

    /// Applies a watch event. Returns the loss of the key if the event shows one.
    pub(super) fn event(
        &mut self,
        at: Revision,
        kv: Option<KeyValue>,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<KeyLoss> {
        match self.phase {
            Phase::InFlight(_) => {
                self.pending_event = Some(Box::new((at, kv)));
                None
            }
            // The old value stays held while a new one waits to be written.
            Phase::Held { .. } | Phase::ToWrite(WriteCondition::OnLease(_))
                if at > self.known_at =>
            {
                self.known_at = at;
                self.observe(kv.as_ref(), leases, valid)
            }
            Phase::Yielded { to: by } if at > self.known_at => {
                self.known_at = at;
                self.phase = match kv {
                    None => Phase::ToWrite(WriteCondition::Absent),
                    // Its owner corrects an invalid value, or it expires with the lease.
                    Some(kv) if kv.lease() == Some(by) => self.phase,
                    Some(kv) => self.classify(&kv, leases, valid(&kv)),
                };
                None
            }
            _ => None,
        }
    }

    /// Records that the current lease and every key attached to it are gone. A key on a retired
    /// lease that still exists stays there.
    pub(super) fn lease_lost(&mut self, lost: LeaseId) {
        match self.stored_at {
            Some(stored_at) if stored_at.lease != lost => {
                self.possible_lease = Some(stored_at.lease);
                self.previous_lease = Some(stored_at.lease);
            }
            _ => self.reset(None),
        }
    }

    /// Records that the lease is no longer renewed, so that the key must be put under another.
    pub(super) fn lease_retired(&mut self, lease: LeaseId) {
        self.must_move = self
            .stored_at
            .is_some_and(|stored_at| stored_at.lease == lease);
        self.prefers_accepted = self.must_move && self.is_refused;
    }

    /// Records that a retired lease is gone. Returns whether the key was attached to it.
    pub(super) fn retired_lost(&mut self, lost: LeaseId) -> bool {
        if let (Phase::Yielded { .. }, false) = (self.phase, self.leaving) {
            // The key is attached to the lease of another process, and watched.
            self.possible_lease = self.possible_lease.filter(|possible| *possible != lost);
            self.release_if_clear();
            return false;
        }
        let matters = match self.stored_at {
            Some(stored_at) => stored_at.lease == lost,
            None => self.possible_lease == Some(lost),
        };
        if matters {
            // The step in flight may put it under another lease.
            self.reset(self.possible_lease.filter(|possible| *possible != lost));
        }
        matters
    }

    fn reset(&mut self, possible_lease: Option<LeaseId>) {
        self.must_move = false;
        self.possible_lease = possible_lease;
        self.previous_lease = possible_lease;
        self.stored_at = None;
        if let Phase::Held { .. } | Phase::Yielded { .. } | Phase::ToWrite(_) | Phase::ToRead =
            self.phase
        {
            self.phase = Phase::ToWrite(WriteCondition::Absent);
        }
        self.release_if_clear();
    }

    /// Records that events of the key may be missing, so that it must be read.
    pub(super) fn watch_interrupted(&mut self) {
        self.pending_event = None;
        if let Phase::Held { .. }
        | Phase::Yielded { .. }
        | Phase::ToWrite(WriteCondition::OnLease(_)) = self.phase
        {
            self.phase = Phase::ToRead;
        }
    }

    /// Records that the key is not attached to a lease of this registrar any more.
    fn deleted(&mut self) {
        self.stored_at = None;
        self.must_move = false;
        self.possible_lease = None;
        // A value that arrived during a withdrawal is written now.
        self.phase = Phase::ToWrite(WriteCondition::Absent);
        self.release_if_clear();
    }

    /// Records that the key has our value since revision `at`, under a lease that may be lost by now.
    fn written(&mut self, lease: LeaseId, at: Revision, leases: &RegistrarLeases) {
        let revision = at;
        if leases.lives(lease) {
            // The answer may come after the lease was retired.
            self.must_move = leases.current != Some(lease);
            self.possible_lease = Some(lease);
            self.is_returning = false;
            self.phase = Phase::Held { lease, revision };
            self.stored_at = Some(StoredAt { lease, revision });
            self.rewrite_if_outdated();
        } else {
            self.phase = Phase::ToWrite(WriteCondition::Absent);
            self.stored_at = None;
            self.must_move = false;
        }
    }

    /// Schedules a write if the stored value is not the wanted one.
    fn rewrite_if_outdated(&mut self) {
        self.is_refused &= self.last_accepted != self.value;
        if let Phase::Held { lease, .. } = self.phase
            && self.last_accepted != self.value
        {
            self.phase = Phase::ToWrite(WriteCondition::OnLease(lease));
        }
    }

    /// Records that the step was answered at revision `at`, and applies the event that arrived while
    /// it was in flight.
    fn apply_answer(
        &mut self,
        at: Revision,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<KeyLoss> {
        self.known_at = at;
        // An event that arrived before the answer may be newer than the answer.
        let loss = match self.pending_event.take().map(|event| *event) {
            Some((at, kv)) => self.event(at, kv, leases, valid),
            None => None,
        };
        self.release_if_clear();
        loss
    }

    /// Applies the state of the key in etcd. Returns the loss of the key if it was held before.
    fn observe(
        &mut self,
        kv: Option<&KeyValue>,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<KeyLoss> {
        if let (Some(stored_at), Some(kv)) = (self.stored_at, kv)
            && (is_written(kv, stored_at.lease, &self.last_sent)
                || is_written(kv, stored_at.lease, &self.last_accepted))
        {
            self.last_accepted = kv.value().clone();
            self.written(stored_at.lease, kv.mod_revision(), leases);
            return None;
        }
        // Only a key that was stored can be lost.
        let was_ours = self.stored_at.take().is_some();
        self.phase = match kv {
            None => Phase::ToWrite(WriteCondition::Absent),
            Some(kv) => self.classify(kv, leases, valid(kv)),
        };
        was_ours.then_some(match (kv, self.phase) {
            (None, _) => KeyLoss::Deleted,
            (Some(_), Phase::Yielded { to: by }) => KeyLoss::Replaced(by),
            (Some(_), _) => KeyLoss::Overwritten,
        })
    }

    /// Ends a release or a withdrawal when nothing is left to delete: the key was never put, or its lease
    /// is lost.
    fn release_if_clear(&mut self) {
        let is_clear = self.possible_lease.is_none() && !matches!(self.phase, Phase::InFlight(_));
        if is_clear && self.leaving {
            self.phase = Phase::Released;
        } else if is_clear && self.withdrawn {
            self.phase = Phase::Withdrawn;
        }
    }

    /// The phase that follows from a key that is not as this registrar wrote it.
    fn classify(&self, kv: &KeyValue, leases: &RegistrarLeases, valid: bool) -> Phase {
        let take = Phase::ToWrite(WriteCondition::Unchanged(kv.mod_revision(), kv.lease()));
        match kv.lease() {
            Some(lease) if leases.is_ours(lease) => take,
            // A successor: an instance under another process's lease.
            Some(lease) if valid => match (self.was_held, self.policy) {
                (true, _) | (_, OnConflict::WaitForExpiry) => Phase::Yielded { to: lease },
                (false, OnConflict::Replace) => take,
                (false, OnConflict::Fail) => Phase::Conflict(Some(lease)),
            },
            // Not a registration: it was written by hand, or is not decodable.
            lease if !self.was_held && self.policy == OnConflict::Fail => Phase::Conflict(lease),
            _ => take,
        }
    }
}

fn is_written(kv: &KeyValue, lease: LeaseId, value: &Bytes) -> bool {
    kv.lease() == Some(lease) && kv.value() == value
}

#[cfg(test)]
mod tests;

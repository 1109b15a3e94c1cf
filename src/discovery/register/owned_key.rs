//! One key that should be ours: what to do about what is found there. Pure.
//!
//! A registrar writes and deletes only under a condition, so that it never takes a key from a
//! successor: another process that registered the same instance after this one lost it.

use bytes::Bytes;

use super::leases::Leases;
use super::registrar::OnConflict;
use crate::types::{KeyValue, LeaseId, Revision};

/// What must hold for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// There is no such key.
    Absent,
    /// The key is as it was found: a store that lost its data counts its revisions anew, and only
    /// the lease tells the key of another from the one that was found.
    Unchanged(Revision, Option<LeaseId>),
    /// The key hangs on this lease of ours.
    Lease(LeaseId),
}

/// What to do about the key next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Put it under this lease.
    Write(Expect, LeaseId),
    /// Delete it if it hangs on this lease.
    Delete(LeaseId),
    /// Read it.
    Look,
}

/// Why a key that was ours is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Deleted,
    Overwritten,
    By(LeaseId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It should be put.
    Wanted(Expect),
    /// It was there, or somebody else's, and must be looked at: what became of it is not known.
    Unsure,
    /// A step is on its way.
    Busy(Step),
    /// It is there.
    Held { lease: LeaseId, revision: Revision },
    /// Somebody else has it, and keeps it until they let go.
    Yielded { by: LeaseId },
    /// Somebody else has it, and that is an error.
    Refused(Option<LeaseId>),
    /// It is gone, or somebody else's, and nothing more is wanted of it.
    Left,
}

/// Where a key was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) lease: LeaseId,
    pub(super) revision: Revision,
}

/// A key, its value, and how far it is.
#[derive(Debug)]
pub(super) struct OwnedKey {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    policy: OnConflict,
    pub(super) phase: Phase,
    /// The value in the last write, which may be older than the one that is wanted.
    sent: Bytes,
    /// The last value that etcd took.
    accepted: Bytes,
    /// etcd refused the wanted value.
    is_refused: bool,
    /// The next write of a key that is gone is one of the last value that etcd took.
    tries_old: bool,
    /// What is known of the key is how it was at this revision.
    seen: Revision,
    /// Where it was put, as far as we know: also while another value is on its way.
    placed: Option<Placed>,
    /// It hangs on a lease that ends, and must be put under another.
    must_move: bool,
    /// It was ours at some time: from then on it is restored, not fought over.
    held_before: bool,
    /// The lease that the key may hang on, as far as we know.
    touched: Option<LeaseId>,
    /// The same before the step that is on its way.
    touched_before: Option<LeaseId>,
    leaving: bool,
    /// The newest event that came while a step was on its way.
    meanwhile: Option<(Revision, Option<KeyValue>)>,
}

impl OwnedKey {
    pub(super) fn new(key: Bytes, value: Bytes, policy: OnConflict) -> Self {
        OwnedKey {
            key,
            value,
            policy,
            phase: Phase::Wanted(Expect::Absent),
            sent: Bytes::new(),
            accepted: Bytes::new(),
            is_refused: false,
            tries_old: false,
            seen: Revision::NONE,
            placed: None,
            must_move: false,
            held_before: false,
            touched: None,
            touched_before: None,
            leaving: false,
            meanwhile: None,
        }
    }

    pub(super) fn was_held(&self) -> bool {
        self.held_before
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Puts another value, when the key is next put or at once if it is there.
    pub(super) fn update(&mut self, value: Bytes) {
        self.value = value;
        self.is_refused = false;
        self.tries_old = false;
        self.renew_if_old();
    }

    /// From where on the key must be watched, if it matters what becomes of it.
    pub(super) fn watch_after(&self) -> Option<Revision> {
        match self.phase {
            Phase::Held { .. } | Phase::Yielded { .. } | Phase::Wanted(Expect::Lease(_)) => {
                Some(self.seen)
            }
            Phase::Wanted(_) | Phase::Unsure | Phase::Busy(_) | Phase::Refused(_) | Phase::Left => {
                None
            }
        }
    }

    /// Where it is, as far as we know.
    pub(super) fn placed(&self) -> Option<Placed> {
        self.placed
    }

    /// Whether what was sent last is what is there.
    pub(super) fn sent_is_there(&self) -> bool {
        self.placed.is_some() && self.accepted == self.sent
    }

    /// Whether etcd refused the wanted value.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Whether the next write is one of the last value that etcd took: a refused update must not
    /// take the instance away when its key is lost.
    pub(super) fn falls_back(&self) -> bool {
        self.tries_old && (self.placed.is_none() || self.must_move)
    }

    /// The value of the next write.
    pub(super) fn next_value(&self) -> &Bytes {
        match self.falls_back() {
            true => &self.accepted,
            false => &self.value,
        }
    }

    /// Lets go of the key, for good.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.leave_if_clear();
    }

    /// The next step, if one is due and none is on its way.
    pub(super) fn due(&self, leases: &Leases) -> Option<Step> {
        match self.phase {
            Phase::Busy(_) | Phase::Left => None,
            _ if self.leaving => self.touched.map(Step::Delete),
            Phase::Wanted(expect) => Some(Step::Write(expect, leases.current?)),
            Phase::Unsure => Some(Step::Look),
            Phase::Held { lease, .. } if self.must_move => {
                Some(Step::Write(Expect::Lease(lease), leases.current?))
            }
            Phase::Held { .. } | Phase::Yielded { .. } | Phase::Refused(_) => None,
        }
    }

    /// The step that is due is on its way from now on.
    pub(super) fn begin(&mut self, step: Step) {
        self.touched_before = self.touched;
        if let Step::Write(_, lease) = step {
            self.touched = Some(lease);
            self.sent = self.next_value().clone();
        }
        self.phase = Phase::Busy(step);
    }

    /// The condition of the step held, and it was done at revision `at`. Says so when the key is not
    /// ours any more since then.
    pub(super) fn done(
        &mut self,
        at: Revision,
        leases: &Leases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<Taken> {
        let Phase::Busy(step) = self.phase else {
            return None;
        };
        match step {
            Step::Write(_, lease) => {
                self.held_before = true;
                self.accepted = self.sent.clone();
                self.written(lease, at, leases);
            }
            Step::Delete(_) => self.phase = Phase::Left,
            // It has no condition.
            Step::Look => self.phase = Phase::Unsure,
        }
        self.answered(at, leases, valid)
    }

    /// The condition of the step did not hold: this is what was there at revision `at`. Says so when
    /// it was ours and is not any more.
    pub(super) fn found(
        &mut self,
        at: Revision,
        kv: Option<&KeyValue>,
        leases: &Leases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<Taken> {
        let Phase::Busy(step) = self.phase else {
            return None;
        };
        let taken = match (step, kv) {
            // Not on our lease any more: whoever has it keeps it.
            (Step::Delete(_), _) => {
                self.phase = Phase::Left;
                None
            }
            (Step::Write(_, lease), Some(kv)) if is_written(kv, lease, &self.sent) => {
                // An earlier try of ours, whose answer was lost.
                self.held_before = true;
                self.accepted = self.sent.clone();
                self.written(lease, kv.mod_revision(), leases);
                None
            }
            (Step::Write(..) | Step::Look, kv) => self.is_now(kv, leases, &valid),
        };
        self.answered(at, leases, valid).or(taken)
    }

    /// No answer, or an error: the step may have been done or not. It will be found out.
    pub(super) fn failed(&mut self) {
        if let Phase::Busy(step) = self.phase {
            self.phase = match step {
                Step::Write(expect, _) => Phase::Wanted(expect),
                Step::Delete(lease) => Phase::Wanted(Expect::Lease(lease)),
                Step::Look => Phase::Unsure,
            };
        }
        // What came meanwhile may be news of the key that is there, or what the step did.
        if self.meanwhile.take().is_some()
            && let Phase::Wanted(Expect::Lease(_)) = self.phase
        {
            self.phase = Phase::Unsure;
        }
        self.leave_if_clear();
    }

    /// The server refused the step, which proves that it was not done. `alone` when no other step was
    /// in the transaction, and so this one is the reason. Says whether it was a write of the wanted
    /// value that was refused alone.
    pub(super) fn refused(&mut self, alone: bool) -> bool {
        let mut is_wanted = false;
        if let Phase::Busy(step) = self.phase {
            self.touched = self.touched_before;
            if let (Step::Write(..), true) = (step, alone) {
                let has_old = !self.accepted.is_empty() && self.accepted != self.value;
                is_wanted = self.sent == self.value;
                self.is_refused |= is_wanted;
                self.tries_old = has_old && is_wanted;
            }
        }
        self.failed();
        is_wanted
    }

    /// A key that may not be deleted stays until its lease ends.
    pub(super) fn give_up(&mut self) {
        self.touched = None;
        self.leave_if_clear();
    }

    /// The key changed. Says so when it is not ours any more.
    pub(super) fn event(
        &mut self,
        at: Revision,
        kv: Option<KeyValue>,
        leases: &Leases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<Taken> {
        match self.phase {
            Phase::Busy(_) => {
                self.meanwhile = Some((at, kv));
                None
            }
            // A new value that is not written yet changes nothing about the old one.
            Phase::Held { .. } | Phase::Wanted(Expect::Lease(_)) if at > self.seen => {
                self.seen = at;
                self.is_now(kv.as_ref(), leases, valid)
            }
            Phase::Yielded { by } if at > self.seen => {
                self.seen = at;
                self.phase = match kv {
                    None => Phase::Wanted(Expect::Absent),
                    // Whatever it says: its owner puts that right, or it goes with the lease.
                    Some(kv) if kv.lease() == Some(by) => self.phase,
                    Some(kv) => self.judge(&kv, leases, valid(&kv)),
                };
                None
            }
            _ => None,
        }
    }

    /// The current lease is gone, and every key that hung on it. Whatever else was known may be as
    /// old: look. A key that is on a lease that lives stays there.
    pub(super) fn lease_lost(&mut self, lost: LeaseId) {
        match self.placed {
            Some(placed) if placed.lease != lost => {
                self.touched = Some(placed.lease);
                self.touched_before = Some(placed.lease);
            }
            _ => self.reset(None),
        }
    }

    /// The lease lives, and ends soon: the key must be put under another.
    pub(super) fn lease_retired(&mut self, lease: LeaseId) {
        self.must_move = self.placed.is_some_and(|placed| placed.lease == lease);
        self.tries_old = self.must_move && self.is_refused;
    }

    /// A lease is gone that was not the current one. Says whether that matters.
    pub(super) fn retired_lost(&mut self, lost: LeaseId) -> bool {
        if let (Phase::Yielded { .. }, false) = (self.phase, self.leaving) {
            // The key is on the lease of somebody else, and followed there.
            self.touched = self.touched.filter(|touched| *touched != lost);
            return false;
        }
        let matters = match self.placed {
            Some(placed) => placed.lease == lost,
            None => self.touched == Some(lost),
        };
        if matters {
            // A step on its way may put it under another lease.
            self.reset(self.touched.filter(|touched| *touched != lost));
        }
        matters
    }

    fn reset(&mut self, touched: Option<LeaseId>) {
        self.must_move = false;
        self.touched = touched;
        self.touched_before = touched;
        self.placed = None;
        if let Phase::Held { .. } | Phase::Yielded { .. } | Phase::Wanted(_) | Phase::Unsure =
            self.phase
        {
            self.phase = Phase::Wanted(Expect::Absent);
        }
        self.leave_if_clear();
    }

    /// What happens to the key was not heard of for a while: look.
    pub(super) fn unwatched(&mut self) {
        self.meanwhile = None;
        if let Phase::Held { .. } | Phase::Yielded { .. } | Phase::Wanted(Expect::Lease(_)) =
            self.phase
        {
            self.phase = Phase::Unsure;
        }
    }

    /// The key has our value since revision `at`, under a lease that may be lost by now.
    fn written(&mut self, lease: LeaseId, at: Revision, leases: &Leases) {
        let revision = at;
        if leases.lives(lease) {
            self.must_move = leases.current != Some(lease);
            self.touched = Some(lease);
            self.phase = Phase::Held { lease, revision };
            self.placed = Some(Placed { lease, revision });
            self.renew_if_old();
        } else {
            self.phase = Phase::Wanted(Expect::Absent);
            self.placed = None;
            self.must_move = false;
        }
    }

    /// What is there is not what is wanted.
    fn renew_if_old(&mut self) {
        self.is_refused &= self.accepted != self.value;
        if let Phase::Held { lease, .. } = self.phase
            && self.accepted != self.value
        {
            self.phase = Phase::Wanted(Expect::Lease(lease));
        }
    }

    /// The step has an answer, of revision `at`: what is still to be done, by what came meanwhile.
    fn answered(
        &mut self,
        at: Revision,
        leases: &Leases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<Taken> {
        self.seen = at;
        // Not all of what was heard of before the answer happened before it.
        let taken = match self.meanwhile.take() {
            Some((at, kv)) => self.event(at, kv, leases, valid),
            None => None,
        };
        self.leave_if_clear();
        taken
    }

    /// This is what is there. Says so when it was ours and is not any more.
    fn is_now(
        &mut self,
        kv: Option<&KeyValue>,
        leases: &Leases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<Taken> {
        if let (Some(placed), Some(kv)) = (self.placed, kv)
            && (is_written(kv, placed.lease, &self.sent)
                || is_written(kv, placed.lease, &self.accepted))
        {
            self.accepted = kv.value().clone();
            self.written(placed.lease, kv.mod_revision(), leases);
            return None;
        }
        let was_ours = self.placed.take().is_some();
        self.phase = match kv {
            None => Phase::Wanted(Expect::Absent),
            Some(kv) => self.judge(kv, leases, valid(kv)),
        };
        was_ours.then_some(match (kv, self.phase) {
            (None, _) => Taken::Deleted,
            (Some(_), Phase::Yielded { by }) => Taken::By(by),
            (Some(_), _) => Taken::Overwritten,
        })
    }

    /// Nothing is left to be deleted: the key was never put, or goes with a lease that is lost.
    fn leave_if_clear(&mut self) {
        if self.leaving && self.touched.is_none() && !matches!(self.phase, Phase::Busy(_)) {
            self.phase = Phase::Left;
        }
    }

    /// Whose key this is, when it is not as we wrote it.
    fn judge(&self, kv: &KeyValue, leases: &Leases, valid: bool) -> Phase {
        let take = Phase::Wanted(Expect::Unchanged(kv.mod_revision(), kv.lease()));
        match kv.lease() {
            Some(lease) if leases.is_ours(lease) => take,
            // A successor: an instance on somebody's lease.
            Some(lease) if valid => match (self.held_before, self.policy) {
                (true, _) | (_, OnConflict::WaitForExpiry) => Phase::Yielded { by: lease },
                (false, OnConflict::Replace) => take,
                (false, OnConflict::Fail) => Phase::Refused(Some(lease)),
            },
            // No registration of anybody: an operator's hand, or rubbish.
            lease if !self.held_before && self.policy == OnConflict::Fail => Phase::Refused(lease),
            _ => take,
        }
    }
}

fn is_written(kv: &KeyValue, lease: LeaseId, value: &Bytes) -> bool {
    kv.lease() == Some(lease) && kv.value() == value
}

#[cfg(test)]
mod tests;

//! One key that should be ours: what to do about what is found there. Pure.
//!
//! A registrar writes and deletes only under a condition, so that it never takes a key from a
//! successor: another process that registered the same instance after this one lost it.

use bytes::Bytes;

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

/// A key, its value, and how far it is.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    policy: OnConflict,
    pub(super) phase: Phase,
    /// The value in the last write, which may be older than the one that is wanted.
    sent: Bytes,
    /// What is known of the key is how it was at this revision.
    seen: Revision,
    /// It was ours at some time: from then on it is restored, not fought over.
    held_before: bool,
    /// The lease that the key may hang on, as far as we know.
    touched: Option<LeaseId>,
    leaving: bool,
    /// The newest event that came while a step was on its way.
    meanwhile: Option<(Revision, Option<KeyValue>)>,
}

/// The leases a registrar has had: what hangs on one of them is its own.
#[derive(Debug, Default)]
pub(super) struct Leases {
    pub(super) current: Option<LeaseId>,
    past: Vec<LeaseId>,
}

/// So many past leases are remembered. A key on an older one is long expired.
const PAST: usize = 16;

impl Leases {
    pub(super) fn lost(&mut self) {
        if let Some(lease) = self.current.take() {
            self.past.push(lease);
            if self.past.len() > PAST {
                self.past.remove(0);
            }
        }
    }

    fn is_ours(&self, lease: LeaseId) -> bool {
        self.current == Some(lease) || self.past.contains(&lease)
    }
}

impl Claim {
    pub(super) fn new(key: Bytes, value: Bytes, policy: OnConflict) -> Self {
        Claim {
            key,
            value,
            policy,
            phase: Phase::Wanted(Expect::Absent),
            sent: Bytes::new(),
            seen: Revision::NONE,
            held_before: false,
            touched: None,
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
        if let Phase::Held { lease, .. } = self.phase {
            self.phase = Phase::Wanted(Expect::Lease(lease));
        }
    }

    /// From where on the key must be watched, if it matters what becomes of it.
    pub(super) fn watch_after(&self) -> Option<Revision> {
        match self.phase {
            Phase::Held { .. } | Phase::Yielded { .. } => Some(self.seen),
            Phase::Wanted(_) | Phase::Busy(_) | Phase::Refused(_) | Phase::Left => None,
        }
    }

    /// The revision that put it there, if it is there.
    pub(super) fn put_at(&self) -> Option<Revision> {
        match self.phase {
            Phase::Held { revision, .. } => Some(revision),
            _ => None,
        }
    }

    /// Lets go of the key, for good.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.leave_if_clear();
    }

    /// The next step, if one is due and none is on its way.
    pub(super) fn next(&mut self, leases: &Leases) -> Option<Step> {
        let step = match self.phase {
            Phase::Busy(_) | Phase::Left => return None,
            _ if self.leaving => Step::Delete(self.touched?),
            Phase::Wanted(expect) => Step::Write(expect, leases.current?),
            Phase::Held { .. } | Phase::Yielded { .. } | Phase::Refused(_) => return None,
        };
        if let Step::Write(_, lease) = step {
            self.touched = Some(lease);
            self.sent = self.value.clone();
        }
        self.phase = Phase::Busy(step);
        Some(step)
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
                self.written(lease, at, leases);
            }
            Step::Delete(_) => self.phase = Phase::Left,
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
        match (step, kv) {
            // Not on our lease any more: whoever has it keeps it.
            (Step::Delete(_), _) => self.phase = Phase::Left,
            (Step::Write(..), None) => self.phase = Phase::Wanted(Expect::Absent),
            (Step::Write(_, lease), Some(kv)) if is_written(kv, lease, &self.sent) => {
                // An earlier try of ours, whose answer was lost.
                self.held_before = true;
                self.written(lease, kv.mod_revision(), leases);
            }
            (Step::Write(..), Some(kv)) => self.phase = self.judge(kv, leases, valid(kv)),
        }
        self.answered(at, leases, valid)
    }

    /// No answer, or an error: the step may have been done or not. It will be found out.
    pub(super) fn failed(&mut self) {
        if let Phase::Busy(step) = self.phase {
            self.phase = Phase::Wanted(match step {
                Step::Write(expect, _) => expect,
                Step::Delete(lease) => Expect::Lease(lease),
            });
        }
        self.meanwhile = None;
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
            Phase::Held { lease, .. } if at > self.seen => {
                self.seen = at;
                self.held_changed(lease, at, kv, leases, valid)
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

    /// The lease is gone, and every key that hung on it. Whatever else was known may be as old: look.
    pub(super) fn lease_lost(&mut self) {
        self.touched = None;
        if let Phase::Held { .. } | Phase::Yielded { .. } | Phase::Wanted(_) = self.phase {
            self.phase = Phase::Wanted(Expect::Absent);
        }
        self.leave_if_clear();
    }

    /// What happens to the key is not heard of any more: look, by trying to put it.
    pub(super) fn unwatched(&mut self) {
        self.meanwhile = None;
        if let Phase::Held { .. } | Phase::Yielded { .. } = self.phase {
            self.phase = Phase::Wanted(Expect::Absent);
        }
    }

    /// The key has our value since revision `at`, under a lease that may be lost by now.
    fn written(&mut self, lease: LeaseId, at: Revision, leases: &Leases) {
        self.phase = if leases.current == Some(lease) {
            let revision = at;
            Phase::Held { lease, revision }
        } else {
            Phase::Wanted(Expect::Absent)
        };
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
        if let Phase::Held { lease, .. } = self.phase
            && self.sent != self.value
        {
            self.phase = Phase::Wanted(Expect::Lease(lease));
        }
        self.leave_if_clear();
        taken
    }

    /// A key that we held changed at revision `at`.
    fn held_changed(
        &mut self,
        lease: LeaseId,
        at: Revision,
        kv: Option<KeyValue>,
        leases: &Leases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> Option<Taken> {
        let Some(kv) = kv else {
            self.phase = Phase::Wanted(Expect::Absent);
            return Some(Taken::Deleted);
        };
        if is_written(&kv, lease, &self.sent) {
            let revision = at;
            self.phase = Phase::Held { lease, revision };
            return None;
        }
        self.phase = self.judge(&kv, leases, valid(&kv));
        Some(match self.phase {
            Phase::Yielded { by } => Taken::By(by),
            _ => Taken::Overwritten,
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
#[cfg(test)]
mod world;

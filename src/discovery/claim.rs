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
mod world;

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(n: i64) -> LeaseId {
        LeaseId::new(n).unwrap()
    }

    fn leases(current: i64, past: &[i64]) -> Leases {
        Leases {
            current: LeaseId::new(current),
            past: past.iter().map(|n| lease(*n)).collect(),
        }
    }

    fn kv(value: &'static str, on: i64, at: i64) -> KeyValue {
        KeyValue {
            key: "k".into(),
            value: value.into(),
            lease: on,
            mod_revision: at,
            ..KeyValue::default()
        }
    }

    fn claim(policy: OnConflict) -> Claim {
        Claim::new("k".into(), "me".into(), policy)
    }

    fn held(policy: OnConflict) -> Claim {
        let mut claim = claim(policy);
        let ours = leases(1, &[]);
        assert_eq!(
            claim.next(&ours),
            Some(Step::Write(Expect::Absent, lease(1)))
        );
        assert_eq!(claim.done(Revision::new(10), &ours, |_| true), None);
        claim
    }

    #[test]
    fn a_free_key_is_taken_and_kept() {
        let mut claim = held(OnConflict::Fail);
        assert_eq!(
            claim.phase,
            Phase::Held {
                lease: lease(1),
                revision: Revision::new(10)
            }
        );
        assert_eq!(claim.next(&leases(1, &[])), None);
        let own = claim.event(
            Revision::new(11),
            Some(kv("me", 1, 11)),
            &leases(1, &[]),
            |_| true,
        );
        assert_eq!(own, None);
    }

    #[test]
    fn nothing_is_written_without_a_lease() {
        assert_eq!(claim(OnConflict::Replace).next(&leases(0, &[])), None);
    }

    #[test]
    fn each_policy_does_what_it_says_about_a_key_that_is_taken() {
        for (policy, phase) in [
            (OnConflict::Fail, Phase::Refused(Some(lease(9)))),
            (
                OnConflict::Replace,
                Phase::Wanted(Expect::Unchanged(Revision::new(5), Some(lease(9)))),
            ),
            (OnConflict::WaitForExpiry, Phase::Yielded { by: lease(9) }),
        ] {
            let mut claim = claim(policy);
            claim.next(&leases(1, &[]));
            claim.found(
                Revision::new(5),
                Some(&kv("other", 9, 5)),
                &leases(1, &[]),
                |_| true,
            );
            assert_eq!(claim.phase, phase, "{policy:?}");
        }
    }

    #[test]
    fn who_waits_gets_the_key_when_it_is_gone() {
        let mut claim = claim(OnConflict::WaitForExpiry);
        claim.next(&leases(1, &[]));
        claim.found(
            Revision::new(5),
            Some(&kv("other", 9, 5)),
            &leases(1, &[]),
            |_| true,
        );
        claim.event(Revision::new(6), None, &leases(1, &[]), |_| true);
        assert_eq!(claim.phase, Phase::Wanted(Expect::Absent));
    }

    #[test]
    fn a_deleted_or_overwritten_key_is_restored() {
        let mut deleted = held(OnConflict::Fail);
        let ours = leases(1, &[]);
        assert_eq!(
            deleted.event(Revision::new(11), None, &ours, |_| true),
            Some(Taken::Deleted)
        );
        assert_eq!(
            deleted.next(&ours),
            Some(Step::Write(Expect::Absent, lease(1)))
        );

        for by_hand in [kv("junk", 0, 11), kv("junk", 9, 11), kv("junk", 1, 11)] {
            let mut claim = held(OnConflict::Fail);
            let taken = claim.event(Revision::new(11), Some(by_hand.clone()), &ours, |_| false);
            assert_eq!(taken, Some(Taken::Overwritten));
            let unchanged = Expect::Unchanged(Revision::new(11), by_hand.lease());
            assert_eq!(claim.next(&ours), Some(Step::Write(unchanged, lease(1))));
        }
    }

    #[test]
    fn a_successor_is_yielded_to_and_outlived() {
        for policy in [
            OnConflict::Fail,
            OnConflict::Replace,
            OnConflict::WaitForExpiry,
        ] {
            let mut claim = held(policy);
            let ours = leases(1, &[]);
            let taken = claim.event(Revision::new(11), Some(kv("me", 9, 11)), &ours, |_| true);
            assert_eq!(taken, Some(Taken::By(lease(9))), "{policy:?}");
            assert_eq!(claim.next(&ours), None);
            claim.event(Revision::new(12), None, &ours, |_| true);
            assert_eq!(
                claim.next(&ours),
                Some(Step::Write(Expect::Absent, lease(1)))
            );
        }
    }

    #[test]
    fn a_key_left_over_from_an_earlier_lease_of_ours_is_moved_to_the_new_one() {
        let mut claim = held(OnConflict::Fail);
        claim.lease_lost();
        let now = leases(2, &[1]);
        assert_eq!(
            claim.next(&now),
            Some(Step::Write(Expect::Absent, lease(2)))
        );
        claim.found(Revision::new(10), Some(&kv("me", 1, 10)), &now, |_| true);
        let unchanged = Expect::Unchanged(Revision::new(10), Some(lease(1)));
        assert_eq!(claim.next(&now), Some(Step::Write(unchanged, lease(2))));
    }

    #[test]
    fn a_write_whose_answer_was_lost_is_recognised() {
        let mut claim = claim(OnConflict::Fail);
        let ours = leases(1, &[]);
        claim.next(&ours);
        claim.failed();
        claim.next(&ours);
        claim.found(Revision::new(7), Some(&kv("me", 1, 7)), &ours, |_| true);
        assert_eq!(
            claim.phase,
            Phase::Held {
                lease: lease(1),
                revision: Revision::new(7)
            }
        );
    }

    #[test]
    fn what_happens_between_a_write_and_its_answer_is_not_missed() {
        let mut claim = claim(OnConflict::Replace);
        let ours = leases(1, &[]);
        claim.next(&ours);
        assert_eq!(
            claim.event(Revision::new(10), Some(kv("me", 1, 10)), &ours, |_| true),
            None
        );
        assert_eq!(claim.event(Revision::new(11), None, &ours, |_| true), None);
        assert_eq!(
            claim.done(Revision::new(10), &ours, |_| true),
            Some(Taken::Deleted)
        );
        assert_eq!(claim.phase, Phase::Wanted(Expect::Absent));
    }

    #[test]
    fn leaving_deletes_only_what_hangs_on_our_lease() {
        let mut claim = held(OnConflict::Replace);
        claim.leave();
        assert_eq!(claim.next(&leases(1, &[])), Some(Step::Delete(lease(1))));
        claim.failed();
        assert_eq!(
            claim.next(&leases(1, &[])),
            Some(Step::Delete(lease(1))),
            "until it is known"
        );
        claim.found(
            Revision::new(20),
            Some(&kv("successor", 9, 20)),
            &leases(1, &[]),
            |_| true,
        );
        assert_eq!(claim.phase, Phase::Left);
    }

    #[test]
    fn leaving_before_anything_was_written_needs_nothing() {
        let mut claim = claim(OnConflict::Replace);
        claim.leave();
        assert_eq!(claim.phase, Phase::Left);
    }

    #[test]
    fn leaving_while_a_write_is_on_its_way_waits_for_it() {
        let mut claim = claim(OnConflict::Replace);
        let ours = leases(1, &[]);
        claim.next(&ours);
        claim.leave();
        assert_eq!(claim.next(&ours), None);
        claim.done(Revision::new(10), &ours, |_| true);
        assert_eq!(claim.next(&ours), Some(Step::Delete(lease(1))));
    }

    #[test]
    fn an_update_goes_out_under_our_lease_and_is_remembered() {
        let mut claim = held(OnConflict::Replace);
        let ours = leases(1, &[]);
        claim.update("new".into());
        assert_eq!(
            claim.next(&ours),
            Some(Step::Write(Expect::Lease(lease(1)), lease(1)))
        );
        claim.done(Revision::new(12), &ours, |_| true);
        claim.lease_lost();
        assert_eq!(claim.value, "new");
    }
}

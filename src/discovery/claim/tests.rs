//! What a claim does, one thing at a time.

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

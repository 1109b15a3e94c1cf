//! Tests of single transitions of an owned key.

mod leases;
mod model;
mod observed;

use super::*;

fn lease(n: i64) -> LeaseId {
    LeaseId::new(n).unwrap()
}

fn leases(current: i64, past: &[i64]) -> RegistrarLeases {
    let mut leases = RegistrarLeases::default();
    for past in past {
        leases.current = Some(lease(*past));
        leases.lost();
    }
    leases.current = LeaseId::new(current);
    leases
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

fn next(owned_key: &mut OwnedKey, leases: &RegistrarLeases) -> Option<KeyStep> {
    let step = owned_key.due(leases)?;
    owned_key.begin(step);
    Some(step)
}

fn owned_key(policy: OnConflict) -> OwnedKey {
    OwnedKey::new("k".into(), "me".into(), policy)
}

fn held(policy: OnConflict) -> OwnedKey {
    let mut owned_key = owned_key(policy);
    let ours = leases(1, &[]);
    assert_eq!(
        next(&mut owned_key, &ours),
        Some(KeyStep::Write(WriteCondition::Absent, lease(1)))
    );
    assert_eq!(owned_key.done(Revision::new(10), &ours, |_| true), None);
    owned_key
}

#[test]
fn an_absent_key_is_put_and_then_held() {
    let mut owned_key = held(OnConflict::Fail);
    assert_eq!(
        owned_key.phase,
        Phase::Held {
            lease: lease(1),
            revision: Revision::new(10)
        }
    );
    assert_eq!(next(&mut owned_key, &leases(1, &[])), None);
    let own = owned_key.event(
        Revision::new(11),
        Some(kv("me", 1, 11)),
        &leases(1, &[]),
        |_| true,
    );
    assert_eq!(own, None);
}

#[test]
fn the_end_of_a_retired_lease_does_not_change_a_key_of_another_process() {
    let mut owned_key = held(OnConflict::Replace);
    let mut ours = leases(1, &[]);
    let loss = owned_key.event(Revision::new(11), Some(kv("you", 9, 11)), &ours, |_| true);
    assert_eq!(loss, Some(KeyLoss::Replaced(lease(9))));
    ours.retire();
    owned_key.lease_retired(lease(1));
    ours.current = Some(lease(2));
    ours.retired_lost(lease(1));
    assert!(
        !owned_key.retired_lost(lease(1)),
        "it was not on that lease"
    );
    assert_eq!(owned_key.phase, Phase::Yielded { to: lease(9) });
    assert_eq!(next(&mut owned_key, &ours), None);
    // Nothing of ours is left to delete.
    owned_key.leave();
    assert_eq!(owned_key.phase, Phase::Released);
}

#[test]
fn nothing_is_written_without_a_lease() {
    assert_eq!(owned_key(OnConflict::Replace).due(&leases(0, &[])), None);
}

#[test]
fn each_policy_has_its_effect_on_a_key_of_another_process() {
    for (policy, phase) in [
        (OnConflict::Fail, Phase::Conflict(Some(lease(9)))),
        (
            OnConflict::Replace,
            Phase::ToWrite(WriteCondition::Unchanged(Revision::new(5), Some(lease(9)))),
        ),
        (OnConflict::WaitForExpiry, Phase::Yielded { to: lease(9) }),
    ] {
        let mut owned_key = owned_key(policy);
        next(&mut owned_key, &leases(1, &[]));
        owned_key.found(
            Revision::new(5),
            Some(&kv("other", 9, 5)),
            &leases(1, &[]),
            |_| true,
        );
        assert_eq!(owned_key.phase, phase, "{policy:?}");
    }
}

#[test]
fn a_waiting_registration_puts_the_key_after_its_deletion() {
    let mut owned_key = owned_key(OnConflict::WaitForExpiry);
    next(&mut owned_key, &leases(1, &[]));
    owned_key.found(
        Revision::new(5),
        Some(&kv("other", 9, 5)),
        &leases(1, &[]),
        |_| true,
    );
    owned_key.event(Revision::new(6), None, &leases(1, &[]), |_| true);
    assert_eq!(owned_key.phase, Phase::ToWrite(WriteCondition::Absent));
}

#[test]
fn a_deleted_or_overwritten_key_is_restored() {
    let mut deleted = held(OnConflict::Fail);
    let ours = leases(1, &[]);
    assert_eq!(
        deleted.event(Revision::new(11), None, &ours, |_| true),
        Some(KeyLoss::Deleted)
    );
    assert_eq!(
        next(&mut deleted, &ours),
        Some(KeyStep::Write(WriteCondition::Absent, lease(1)))
    );

    for by_hand in [kv("junk", 0, 11), kv("junk", 9, 11), kv("junk", 1, 11)] {
        let mut owned_key = held(OnConflict::Fail);
        let loss = owned_key.event(Revision::new(11), Some(by_hand.clone()), &ours, |_| false);
        assert_eq!(loss, Some(KeyLoss::Overwritten));
        let unchanged = WriteCondition::Unchanged(Revision::new(11), by_hand.lease());
        assert_eq!(
            next(&mut owned_key, &ours),
            Some(KeyStep::Write(unchanged, lease(1)))
        );
    }
}

#[test]
fn a_key_is_yielded_to_a_successor_and_restored_after_it() {
    for policy in [
        OnConflict::Fail,
        OnConflict::Replace,
        OnConflict::WaitForExpiry,
    ] {
        let mut owned_key = held(policy);
        let ours = leases(1, &[]);
        let loss = owned_key.event(Revision::new(11), Some(kv("me", 9, 11)), &ours, |_| true);
        assert_eq!(loss, Some(KeyLoss::Replaced(lease(9))), "{policy:?}");
        assert_eq!(next(&mut owned_key, &ours), None);
        owned_key.event(Revision::new(12), None, &ours, |_| true);
        assert_eq!(
            next(&mut owned_key, &ours),
            Some(KeyStep::Write(WriteCondition::Absent, lease(1)))
        );
    }
}

#[test]
fn a_key_left_over_from_an_earlier_lease_of_ours_is_moved_to_the_new_one() {
    let mut owned_key = held(OnConflict::Fail);
    owned_key.lease_lost(lease(1));
    let now = leases(2, &[1]);
    assert_eq!(
        next(&mut owned_key, &now),
        Some(KeyStep::Write(WriteCondition::Absent, lease(2)))
    );
    owned_key.found(Revision::new(10), Some(&kv("me", 1, 10)), &now, |_| true);
    let unchanged = WriteCondition::Unchanged(Revision::new(10), Some(lease(1)));
    assert_eq!(
        next(&mut owned_key, &now),
        Some(KeyStep::Write(unchanged, lease(2)))
    );
}

#[test]
fn a_write_whose_answer_was_lost_is_recognised() {
    let mut owned_key = owned_key(OnConflict::Fail);
    let ours = leases(1, &[]);
    next(&mut owned_key, &ours);
    owned_key.failed();
    next(&mut owned_key, &ours);
    owned_key.found(Revision::new(7), Some(&kv("me", 1, 7)), &ours, |_| true);
    assert_eq!(
        owned_key.phase,
        Phase::Held {
            lease: lease(1),
            revision: Revision::new(7)
        }
    );
}

#[test]
fn a_deletion_before_the_answer_to_a_write_is_not_missed() {
    let mut owned_key = owned_key(OnConflict::Replace);
    let ours = leases(1, &[]);
    next(&mut owned_key, &ours);
    assert_eq!(
        owned_key.event(Revision::new(10), Some(kv("me", 1, 10)), &ours, |_| true),
        None
    );
    assert_eq!(
        owned_key.event(Revision::new(11), None, &ours, |_| true),
        None
    );
    assert_eq!(
        owned_key.done(Revision::new(10), &ours, |_| true),
        Some(KeyLoss::Deleted)
    );
    assert_eq!(owned_key.phase, Phase::ToWrite(WriteCondition::Absent));
}

#[test]
fn leaving_deletes_only_a_key_on_our_lease() {
    let mut owned_key = held(OnConflict::Replace);
    owned_key.leave();
    assert_eq!(
        next(&mut owned_key, &leases(1, &[])),
        Some(KeyStep::Delete(lease(1)))
    );
    owned_key.failed();
    assert_eq!(
        next(&mut owned_key, &leases(1, &[])),
        Some(KeyStep::Delete(lease(1))),
        "until it is known"
    );
    owned_key.found(
        Revision::new(20),
        Some(&kv("successor", 9, 20)),
        &leases(1, &[]),
        |_| true,
    );
    assert_eq!(owned_key.phase, Phase::Released);
}

#[test]
fn leaving_before_the_first_write_sends_nothing() {
    let mut owned_key = owned_key(OnConflict::Replace);
    owned_key.leave();
    assert_eq!(owned_key.phase, Phase::Released);
}

#[test]
fn leaving_waits_for_a_write_in_flight() {
    let mut owned_key = owned_key(OnConflict::Replace);
    let ours = leases(1, &[]);
    next(&mut owned_key, &ours);
    owned_key.leave();
    assert_eq!(next(&mut owned_key, &ours), None);
    owned_key.done(Revision::new(10), &ours, |_| true);
    assert_eq!(next(&mut owned_key, &ours), Some(KeyStep::Delete(lease(1))));
}

#[test]
fn an_update_is_written_under_our_lease_and_restored_later() {
    let mut owned_key = held(OnConflict::Replace);
    let ours = leases(1, &[]);
    owned_key.update("new".into());
    assert_eq!(
        next(&mut owned_key, &ours),
        Some(KeyStep::Write(WriteCondition::OnLease(lease(1)), lease(1)))
    );
    owned_key.done(Revision::new(12), &ours, |_| true);
    owned_key.lease_lost(lease(1));
    assert_eq!(owned_key.value, "new");
}

#[test]
fn a_refused_update_leaves_the_old_value() {
    let mut owned_key = held(OnConflict::Replace);
    let ours = leases(1, &[]);
    owned_key.update("too large".into());
    next(&mut owned_key, &ours);
    assert!(owned_key.refused(true), "the wanted value is");
    assert_eq!(owned_key.stored_at().unwrap().revision, Revision::new(10));
    assert!(owned_key.is_refused());
    assert_eq!(owned_key.next_value(), "too large", "it is tried again");
    assert_eq!(owned_key.watch_after(), Some(Revision::new(10)));
    // The key is lost: the value that etcd took is put back.
    let loss = owned_key.event(Revision::new(11), None, &ours, |_| true);
    assert_eq!(loss, Some(KeyLoss::Deleted));
    assert_eq!(owned_key.next_value(), "me");
    next(&mut owned_key, &ours);
    assert!(!owned_key.refused(true), "it is not the wanted value");
    assert_eq!(
        owned_key.next_value(),
        "too large",
        "the two values alternate"
    );
    next(&mut owned_key, &ours);
    assert!(owned_key.refused(true));
    assert_eq!(owned_key.next_value(), "me");
    next(&mut owned_key, &ours);
    owned_key.done(Revision::new(12), &ours, |_| true);
    assert_eq!(owned_key.stored_at().unwrap().revision, Revision::new(12));
    assert_eq!(
        owned_key.due(&ours),
        Some(KeyStep::Write(WriteCondition::OnLease(lease(1)), lease(1)))
    );
    owned_key.update("smaller".into());
    next(&mut owned_key, &ours);
    owned_key.done(Revision::new(13), &ours, |_| true);
    assert!(!owned_key.is_refused());
}

#[test]
fn after_a_refused_first_write_there_is_nothing_to_delete() {
    let mut owned_key = owned_key(OnConflict::Replace);
    next(&mut owned_key, &leases(1, &[]));
    owned_key.refused(true);
    owned_key.leave();
    assert_eq!(owned_key.phase, Phase::Released);
}

#[test]
fn a_refusal_does_not_settle_the_unknown_outcome_of_an_earlier_write() {
    let mut owned_key = owned_key(OnConflict::Replace);
    let ours = leases(1, &[]);
    next(&mut owned_key, &ours);
    owned_key.failed();
    next(&mut owned_key, &ours);
    owned_key.refused(true);
    owned_key.leave();
    assert_eq!(owned_key.due(&ours), Some(KeyStep::Delete(lease(1))));
}

// Fault: R11
#[test]
fn a_key_whose_watch_was_interrupted_is_read_and_not_written() {
    let mut owned_key = held(OnConflict::Replace);
    let ours = leases(1, &[]);
    owned_key.watch_interrupted();
    assert!(
        owned_key.stored_at().is_some(),
        "it is stored as before, as far as known"
    );
    assert_eq!(next(&mut owned_key, &ours), Some(KeyStep::Read));
    owned_key.failed();
    assert_eq!(next(&mut owned_key, &ours), Some(KeyStep::Read));
    let there = kv("me", 1, 10);
    assert_eq!(
        owned_key.found(Revision::new(20), Some(&there), &ours, |_| true),
        None
    );
    assert_eq!(owned_key.watch_after(), Some(Revision::new(20)));
    owned_key.watch_interrupted();
    next(&mut owned_key, &ours);
    let loss = owned_key.found(Revision::new(30), None, &ours, |_| true);
    assert_eq!(loss, Some(KeyLoss::Deleted));
}

#[test]
fn an_event_that_arrives_during_a_refused_update_is_not_lost() {
    let mut owned_key = held(OnConflict::Replace);
    let ours = leases(1, &[]);
    owned_key.update("too large".into());
    next(&mut owned_key, &ours);
    owned_key.event(Revision::new(11), None, &ours, |_| true);
    owned_key.refused(true);
    assert_eq!(next(&mut owned_key, &ours), Some(KeyStep::Read));
    let loss = owned_key.found(Revision::new(12), None, &ours, |_| true);
    assert_eq!(loss, Some(KeyLoss::Deleted));
}

#[test]
fn a_key_that_cannot_be_deleted_ends_with_its_lease() {
    let mut owned_key = held(OnConflict::Replace);
    let ours = leases(1, &[]);
    owned_key.leave();
    next(&mut owned_key, &ours);
    owned_key.refused(true);
    assert_eq!(owned_key.due(&ours), Some(KeyStep::Delete(lease(1))));
    owned_key.abandon();
    assert_eq!(owned_key.phase, Phase::Released);
}

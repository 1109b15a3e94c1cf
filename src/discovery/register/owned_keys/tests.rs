//! Tests of the keys of one registration.

mod model;

use super::*;
use crate::discovery::register::key_step::WriteCondition;

fn lease(n: i64) -> LeaseId {
    LeaseId::new(n).unwrap()
}

fn leases(current: i64) -> RegistrarLeases {
    let mut leases = RegistrarLeases::default();
    leases.current = LeaseId::new(current);
    leases
}

fn keys(values: [Option<&'static str>; 3], policy: OnConflict) -> OwnedKeys {
    let keys = ["a", "b", "c"].into_iter().zip(values);
    let keys = keys.map(|(key, value)| (key.into(), value.map(Bytes::from)));
    OwnedKeys::new(keys, policy)
}

fn kv(key: &'static str, value: &'static str, on: i64, at: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
        lease: on,
        mod_revision: at,
        ..KeyValue::default()
    }
}

fn due(keys: &OwnedKeys, leases: &RegistrarLeases) -> Vec<DueStep> {
    keys.due(leases).collect()
}

fn write(n: usize, condition: WriteCondition) -> DueStep {
    (n, KeyStep::Write(condition, lease(1)))
}

/// Sends what is due, which is executed at this revision.
fn execute(keys: &mut OwnedKeys, leases: &RegistrarLeases, at: i64) -> Vec<DueStep> {
    let steps = due(keys, leases);
    keys.begin(&steps);
    for (n, _) in &steps {
        assert_eq!(keys.done(*n, Revision::new(at), leases, |_| true), None);
    }
    steps
}

fn held() -> OwnedKeys {
    let mut keys = keys([Some("1"), Some("2"), Some("3")], OnConflict::Replace);
    execute(&mut keys, &leases(1), 10);
    keys
}

#[test]
fn all_keys_are_written_together() {
    let ours = leases(1);
    let mut keys = keys([Some("1"), Some("2"), Some("3")], OnConflict::Fail);
    assert_eq!(keys.stored_at(), None);
    let absent = [0, 1, 2].map(|n| write(n, WriteCondition::Absent));
    assert_eq!(due(&keys, &ours), absent);
    keys.begin(&absent);
    assert_eq!(due(&keys, &ours), [], "one transaction at a time");
    for n in 0..2 {
        keys.done(n, Revision::new(10), &ours, |_| true);
        assert_eq!(keys.stored_at(), None, "one is missing");
        assert_eq!(due(&keys, &ours), []);
    }
    keys.done(2, Revision::new(10), &ours, |_| true);
    let stored_at = keys.stored_at().unwrap();
    assert_eq!(
        (stored_at.lease, stored_at.revision),
        (lease(1), Revision::new(10))
    );
    assert!(keys.wanted_is_there() && !keys.is_withdrawn());
}

#[test]
fn a_key_that_is_lost_is_restored_alone() {
    let (ours, mut keys) = (leases(1), held());
    let (loss, is_changed) = keys.event(1, Revision::new(11), None, &ours, |_| true);
    assert_eq!((loss, is_changed), (Some(KeyLoss::Deleted), true));
    assert_eq!(keys.stored_at(), None);
    assert_eq!(due(&keys, &ours), [write(1, WriteCondition::Absent)]);
    execute(&mut keys, &ours, 12);
    assert_eq!(keys.stored_at().unwrap().revision, Revision::new(12));
}

#[test]
fn a_key_without_a_value_is_deleted_with_the_write_of_the_others() {
    let (ours, mut keys) = (leases(1), held());
    keys.update([Some("1 draining".into()), None, Some("3".into())]);
    assert!(keys.stored_at().is_some() && !keys.wanted_is_there());
    let both = [
        write(0, WriteCondition::OnLease(lease(1))),
        (1, KeyStep::Delete(lease(1))),
    ];
    assert_eq!(execute(&mut keys, &ours, 11), both);
    assert!(keys.wanted_is_there() && !keys.is_withdrawn());
    let event = keys.event(1, Revision::new(11), None, &ours, |_| true);
    assert_eq!(event, (None, false), "the own deletion is no loss");
    // With its next value it is put back, and does not count as lost in between.
    keys.update([Some("1".into()), Some("2".into()), Some("3".into())]);
    assert!(keys.stored_at().is_some() && !keys.wanted_is_there());
    assert_eq!(execute(&mut keys, &ours, 12).len(), 2);
    assert_eq!(keys.stored_at().unwrap().revision, Revision::new(12));
}

#[test]
fn keys_without_values_are_withdrawn_until_they_have_values() {
    let ours = leases(1);
    let mut never = keys([None, None, None], OnConflict::Fail);
    assert!(never.is_withdrawn() && never.wanted_is_there());
    assert_eq!(due(&never, &ours), []);
    never.update(["1", "2", "3"].map(|value| Some(value.into())));
    assert!(never.is_withdrawn(), "it is not back yet");
    assert_eq!(execute(&mut never, &ours, 10).len(), 3);
    assert!(!never.is_withdrawn());

    let mut keys = held();
    keys.update([None, None, None]);
    assert!(keys.is_withdrawn() && !keys.wanted_is_there());
    let deletes = [0, 1, 2].map(|n| (n, KeyStep::Delete(lease(1))));
    assert_eq!(execute(&mut keys, &ours, 11), deletes);
    assert!(keys.is_withdrawn() && keys.wanted_is_there());
    keys.leave();
    assert!(keys.is_released());
}

#[test]
fn a_value_that_arrives_during_a_withdrawal_is_written_after_it() {
    let (ours, mut keys) = (leases(1), held());
    keys.update([None, None, None]);
    let deletes = due(&keys, &ours);
    keys.begin(&deletes);
    keys.update(["1", "2", "3"].map(|value| Some(value.into())));
    for (n, _) in deletes {
        keys.done(n, Revision::new(11), &ours, |_| true);
    }
    let absent = [0, 1, 2].map(|n| write(n, WriteCondition::Absent));
    assert_eq!(execute(&mut keys, &ours, 12), absent);
}

#[test]
fn the_first_write_waits_until_no_key_belongs_to_another_process() {
    let ours = leases(1);
    let mut keys = keys([Some("1"), Some("2"), Some("3")], OnConflict::WaitForExpiry);
    let steps = due(&keys, &ours);
    keys.begin(&steps);
    let other = kv("b", "other", 7, 5);
    for (n, kv) in [None, Some(&other), None].into_iter().enumerate() {
        keys.found(n, Revision::new(10), kv, &ours, |_| true);
    }
    assert_eq!(keys.yielded_to(), Some(lease(7)));
    assert_eq!(
        due(&keys, &ours),
        [],
        "no key is written without the others"
    );
    keys.event(1, Revision::new(11), None, &ours, |_| true);
    assert_eq!(execute(&mut keys, &ours, 12).len(), 3);

    let mut keys = self::keys([Some("1"), Some("2"), Some("3")], OnConflict::Fail);
    let steps = due(&keys, &ours);
    keys.begin(&steps);
    for (n, kv) in [None, None, Some(&other)].into_iter().enumerate() {
        keys.found(n, Revision::new(10), kv, &ours, |_| true);
    }
    assert_eq!(keys.conflict(), Some(Some(lease(7))));
}

#[test]
fn a_lost_key_is_restored_before_a_refused_update_of_the_others_is_tried_again() {
    let (ours, mut keys) = (leases(1), held());
    keys.update(["1+", "2+", "3+"].map(|value| Some(value.into())));
    let steps = due(&keys, &ours);
    keys.begin(&steps);
    assert!(keys.refused(true) && keys.is_refused());
    assert_eq!(due(&keys, &ours).len(), 3);
    keys.event(2, Revision::new(11), None, &ours, |_| true);
    assert_eq!(due(&keys, &ours), [write(2, WriteCondition::Absent)]);
    assert_eq!(keys.get(2).unwrap().next_value(), "3", "the accepted value");
    execute(&mut keys, &ours, 12);
    assert_eq!(due(&keys, &ours).len(), 3);
}

#[test]
fn the_keys_on_a_retired_lease_decide_which_lease_counts() {
    let (mut ours, mut keys) = (leases(1), held());
    ours.retire();
    keys.lease_retired(lease(1));
    assert_eq!(keys.stored_at().unwrap().lease, lease(1));
    ours.current = LeaseId::new(2);
    let moves = due(&keys, &ours);
    assert_eq!(moves.len(), 3);
    keys.begin(&moves);
    for n in 0..2 {
        keys.done(n, Revision::new(11), &ours, |_| true);
        assert_eq!(keys.stored_at().unwrap().lease, lease(1));
    }
    keys.done(2, Revision::new(11), &ours, |_| true);
    assert_eq!(keys.stored_at().unwrap().lease, lease(2));
}

#[test]
fn what_was_sent_is_there_when_every_key_has_the_last_sent_value() {
    let (ours, mut keys) = (leases(1), held());
    assert_eq!((keys.len(), keys.known_at()), (3, Revision::new(10)));
    assert!(keys.sent_is_there() && keys.was_held() && !keys.writes_accepted());
    keys.update([Some("1+".into()), Some("2".into()), Some("3".into())]);
    assert!(keys.sent_is_there(), "the update was not sent yet");
    let steps = due(&keys, &ours);
    keys.begin(&steps);
    assert!(!keys.sent_is_there());
    keys.failed();
    assert_eq!(due(&keys, &ours), steps, "it is sent again");
    execute(&mut keys, &ours, 11);
    assert!(keys.sent_is_there());
    assert_eq!(keys.known_at(), Revision::new(11));
    keys.event(2, Revision::new(12), None, &ours, |_| true);
    assert!(!keys.sent_is_there(), "a key is missing");
    assert_eq!(keys.known_at(), Revision::new(12));
    execute(&mut keys, &ours, 13);
    keys.update([Some("1+".into()), Some("2".into()), None]);
    assert!(!keys.sent_is_there(), "a withdrawn key is still there");
    execute(&mut keys, &ours, 14);
    assert!(keys.sent_is_there());
    let never = self::keys([Some("1"), Some("2"), Some("3")], OnConflict::Fail);
    assert!(!never.sent_is_there() && !never.was_held());
}

#[test]
fn keys_whose_watch_was_interrupted_are_read() {
    let (ours, mut keys) = (leases(1), held());
    keys.watch_interrupted(1);
    assert_eq!(due(&keys, &ours), [(1, KeyStep::Read)]);
    keys.watches_interrupted();
    assert_eq!(due(&keys, &ours), [0, 1, 2].map(|n| (n, KeyStep::Read)));
}

#[test]
fn keys_of_a_lost_lease_are_written_again() {
    let mut keys = held();
    keys.lease_lost(lease(1));
    assert_eq!(keys.stored_at(), None);
    let absent = [0, 1, 2].map(|n| write(n, WriteCondition::Absent));
    assert_eq!(due(&keys, &leases(1)), absent);

    let (mut ours, mut keys) = (leases(1), held());
    ours.retire();
    keys.lease_retired(lease(1));
    assert!(!keys.retired_lost(lease(7)), "it is no lease of theirs");
    assert!(keys.stored_at().is_some());
    assert!(keys.retired_lost(lease(1)), "all three were attached to it");
    assert_eq!(keys.stored_at(), None);

    let mut two = self::keys([Some("1"), Some("2"), None], OnConflict::Replace);
    execute(&mut two, &leases(1), 10);
    assert!(two.retired_lost(lease(1)), "two of three");
}

#[test]
fn a_value_that_is_refused_for_two_keys_is_refused() {
    let (ours, mut keys) = (leases(1), held());
    keys.update([Some("1+".into()), Some("2+".into()), Some("3".into())]);
    let steps = due(&keys, &ours);
    keys.begin(&steps);
    assert!(keys.refused(true) && keys.is_refused());
    assert!(!held().is_refused());
    // The refused value must not remove the instance when its key is lost.
    assert!(!keys.writes_accepted());
    keys.event(0, Revision::new(11), None, &ours, |_| true);
    assert!(keys.writes_accepted());
}

#[test]
fn keys_that_may_not_be_deleted_are_abandoned_only_when_they_are_to_be_deleted() {
    let (ours, mut keys) = (leases(1), held());
    keys.update([Some("1".into()), None, Some("3".into())]);
    assert!(!keys.is_leaving());
    keys.abandon();
    assert_eq!(
        due(&keys, &ours),
        [],
        "the second one stays until its lease ends"
    );
    assert!(!keys.is_released());
    keys.leave();
    assert!(keys.is_leaving());
    let deletes = [0, 2].map(|n| (n, KeyStep::Delete(lease(1))));
    assert_eq!(due(&keys, &ours), deletes);
    keys.abandon();
    assert!(keys.is_released());
}

#[test]
fn the_lease_of_the_keys_is_the_retired_one_while_any_key_is_on_it() {
    for moved in 0..3 {
        let (mut ours, mut keys) = (leases(1), held());
        ours.retire();
        keys.lease_retired(lease(1));
        ours.current = Some(lease(2));
        let steps = due(&keys, &ours);
        assert_eq!(steps.len(), 3);
        keys.begin(&steps);
        keys.done(moved, Revision::new(20), &ours, |_| true);
        let stored_at = keys.stored_at().unwrap();
        let expected = (lease(1), Revision::new(20));
        assert_eq!((stored_at.lease, stored_at.revision), expected, "{moved}");
        for n in (0..3).filter(|n| *n != moved) {
            keys.done(n, Revision::new(20), &ours, |_| true);
        }
        assert_eq!(keys.stored_at().unwrap().lease, lease(2));
    }
}

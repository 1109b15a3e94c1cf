//! Tests of an owned key after a read of it in the store, and after events that arrive late.

use super::*;

#[test]
fn an_event_that_is_not_newer_than_what_is_known_changes_nothing() {
    let ours = leases(1, &[]);
    for at in [9, 10] {
        let mut owned_key = held(OnConflict::Replace);
        let before = owned_key.phase;
        let loss = owned_key.event(Revision::new(at), None, &ours, |_| true);
        assert_eq!((loss, owned_key.phase), (None, before), "{at}");
    }
    for at in [9, 11] {
        let mut yielded = held(OnConflict::Replace);
        yielded.event(Revision::new(11), Some(kv("you", 9, 11)), &ours, |_| true);
        yielded.event(Revision::new(at), None, &ours, |_| true);
        assert_eq!(yielded.phase, Phase::Yielded { to: lease(9) }, "{at}");
    }
}

#[test]
fn a_successor_keeps_the_key_while_it_is_under_its_lease_even_with_an_invalid_value() {
    let ours = leases(1, &[]);
    let mut yielded = held(OnConflict::Replace);
    yielded.event(Revision::new(11), Some(kv("you", 9, 11)), &ours, |_| true);
    yielded.event(Revision::new(12), Some(kv("junk", 9, 12)), &ours, |_| false);
    assert_eq!(yielded.phase, Phase::Yielded { to: lease(9) });
    yielded.event(Revision::new(13), Some(kv("it", 8, 13)), &ours, |_| true);
    assert_eq!(yielded.phase, Phase::Yielded { to: lease(8) });
    yielded.event(Revision::new(14), Some(kv("junk", 7, 14)), &ours, |_| false);
    let unchanged = WriteCondition::Unchanged(Revision::new(14), Some(lease(7)));
    assert_eq!(yielded.phase, Phase::ToWrite(unchanged));
}

#[test]
fn a_key_that_is_no_registration_is_a_conflict_only_for_a_first_write_that_must_not_replace() {
    let ours = leases(1, &[]);
    for found in [kv("junk", 9, 5), kv("by hand", 0, 5)] {
        for (policy, is_conflict) in [
            (OnConflict::Fail, true),
            (OnConflict::Replace, false),
            (OnConflict::WaitForExpiry, false),
        ] {
            let mut owned_key = owned_key(policy);
            next(&mut owned_key, &ours);
            owned_key.found(Revision::new(5), Some(&found), &ours, |_| false);
            let unchanged = WriteCondition::Unchanged(Revision::new(5), found.lease());
            let expected = match is_conflict {
                true => Phase::Conflict(found.lease()),
                false => Phase::ToWrite(unchanged),
            };
            assert_eq!(owned_key.phase, expected, "{policy:?}");
        }
    }
}

#[test]
fn after_an_update_without_an_answer_both_values_are_its_own() {
    let ours = leases(1, &[]);
    for (found, is_new) in [(kv("me", 1, 10), false), (kv("new", 1, 12), true)] {
        let mut owned_key = held(OnConflict::Replace);
        owned_key.update("new".into());
        next(&mut owned_key, &ours);
        owned_key.failed();
        owned_key.watch_interrupted();
        assert_eq!(next(&mut owned_key, &ours), Some(KeyStep::Read));
        let loss = owned_key.found(Revision::new(20), Some(&found), &ours, |_| true);
        assert_eq!(loss, None);
        assert_eq!(owned_key.wanted_is_there(), is_new);
        let again = KeyStep::Write(WriteCondition::OnLease(lease(1)), lease(1));
        assert_eq!(owned_key.due(&ours), (!is_new).then_some(again));
    }
}

#[test]
fn a_refused_first_value_is_sent_again_and_no_empty_one() {
    let ours = leases(1, &[]);
    let mut owned_key = owned_key(OnConflict::Replace);
    next(&mut owned_key, &ours);
    assert!(owned_key.refused(true));
    assert_eq!(owned_key.next_value(), "me");
    assert!(owned_key.is_refused());
    next(&mut owned_key, &ours);
    owned_key.done(Revision::new(5), &ours, |_| true);
    assert!(!owned_key.is_refused(), "it was accepted in the end");
}

#[test]
fn a_refused_update_stays_refused_while_the_old_value_is_found() {
    let ours = leases(1, &[]);
    let mut owned_key = held(OnConflict::Replace);
    owned_key.update("too large".into());
    next(&mut owned_key, &ours);
    assert!(owned_key.refused(true));
    owned_key.watch_interrupted();
    assert_eq!(next(&mut owned_key, &ours), Some(KeyStep::Read));
    let old = kv("me", 1, 10);
    owned_key.found(Revision::new(20), Some(&old), &ours, |_| true);
    assert!(owned_key.is_refused());
}

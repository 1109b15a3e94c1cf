//! Leases that are lost or retired while a key is under them.

use super::*;

/// The leases after the first one was retired; the second one is current.
fn retired() -> RegistrarLeases {
    let mut leases = leases(1, &[]);
    leases.retire();
    leases.current = Some(lease(2));
    leases
}

/// A key that is held under lease 1, which was retired.
fn held_on_retired() -> (OwnedKey, RegistrarLeases) {
    let mut owned_key = held(OnConflict::Replace);
    assert!(!owned_key.must_move());
    owned_key.lease_retired(lease(2));
    assert!(!owned_key.must_move(), "it is not on that lease");
    owned_key.lease_retired(lease(1));
    assert!(owned_key.must_move());
    (owned_key, retired())
}

#[test]
fn a_key_on_a_retired_lease_is_moved_with_its_newest_value() {
    let (mut owned_key, ours) = held_on_retired();
    owned_key.update("new".into());
    assert_eq!(owned_key.next_value(), "new");
    let mut owned_key = held(OnConflict::Replace);
    owned_key.update("new".into());
    owned_key.lease_retired(lease(1));
    assert_eq!(owned_key.next_value(), "new");
    let on_old = KeyStep::Write(WriteCondition::OnLease(lease(1)), lease(2));
    assert_eq!(next(&mut owned_key, &ours), Some(on_old));
    owned_key.done(Revision::new(12), &ours, |_| true);
    assert!(!owned_key.must_move());
    assert_eq!(owned_key.stored_at().unwrap().lease, lease(2));
}

#[test]
fn a_key_on_a_retired_lease_is_moved_with_the_accepted_value_if_its_new_one_was_refused() {
    let ours = leases(1, &[]);
    let mut owned_key = held(OnConflict::Replace);
    owned_key.update("too large".into());
    next(&mut owned_key, &ours);
    assert!(owned_key.refused(true));
    owned_key.lease_retired(lease(1));
    assert_eq!(owned_key.next_value(), "me");
}

#[test]
fn the_loss_of_the_next_lease_leaves_the_key_on_the_retired_one() {
    let (mut owned_key, mut ours) = held_on_retired();
    let moves = next(&mut owned_key, &ours);
    assert!(matches!(moves, Some(KeyStep::Write(..))));
    ours.lost();
    owned_key.lease_lost(lease(2));
    assert_eq!(owned_key.stored_at().unwrap().lease, lease(1));
    owned_key.failed();
    owned_key.leave();
    assert_eq!(owned_key.due(&ours), Some(KeyStep::Delete(lease(1))));
}

#[test]
fn the_end_of_a_retired_lease_ends_a_key_only_if_it_may_be_under_it() {
    // The first write is in flight, so the key may be under lease 1.
    for (lost, matters) in [(1, true), (2, false)] {
        let mut owned_key = owned_key(OnConflict::Replace);
        next(&mut owned_key, &leases(1, &[]));
        assert_eq!(owned_key.retired_lost(lease(lost)), matters);
        owned_key.failed();
        owned_key.leave();
        let delete = (!matters).then_some(KeyStep::Delete(lease(1)));
        assert_eq!(owned_key.due(&retired()), delete);
    }
}

#[test]
fn a_key_that_may_have_moved_is_deleted_under_the_new_lease() {
    let (mut owned_key, mut ours) = held_on_retired();
    next(&mut owned_key, &ours);
    ours.retired_lost(lease(1));
    assert!(owned_key.retired_lost(lease(1)));
    assert_eq!(owned_key.stored_at(), None);
    owned_key.failed();
    owned_key.leave();
    assert_eq!(owned_key.due(&ours), Some(KeyStep::Delete(lease(2))));
}

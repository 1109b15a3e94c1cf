//! The causes of removals, and the queries for them.

use super::*;

#[test]
fn the_removal_of_a_draining_instance_needs_no_query() {
    let mut directory = read([
        put(&instance("a").status(Status::Draining), 1),
        put(&instance("b"), 0),
    ]);
    let update = apply(&mut directory, [delete("a"), delete("b")]);
    assert_eq!(summary(&update.changes), "-a Left, -b Left");
    assert_eq!(update.queries, []);
}

#[test]
fn a_deleted_instance_is_removed_at_once_and_its_cause_follows() {
    for (alive, cause) in [
        (Some(true), "-a Left"),
        (Some(false), "-a Expired"),
        (None, "-a Unknown"),
    ] {
        let mut directory = read([put(&instance("a"), 1)]);
        let update = apply(&mut directory, [delete("a")]);
        assert_eq!(summary(&update.changes), "");
        assert_eq!(update.queries, [LeaseQuery { lease: lease(1) }]);
        assert_eq!(ids(&directory), [""; 0]);
        assert!(!directory.is_settled());
        assert_eq!(
            summary(&directory.lease_status(lease(1), alive).changes),
            cause
        );
        assert!(directory.is_settled());
    }
}

#[test]
fn a_deletion_after_the_query_of_its_lease_is_followed_by_another_query() {
    let mut directory = read([put(&instance("a"), 1), put(&instance("b"), 1)]);
    let query = LeaseQuery { lease: lease(1) };
    assert_eq!(apply(&mut directory, [delete("a")]).queries, [query]);
    assert_eq!(apply(&mut directory, [delete("b")]).queries, []);
    let update = directory.lease_status(lease(1), Some(true));
    assert_eq!(summary(&update.changes), "-a Left");
    assert_eq!(update.queries, [query]);
    let update = directory.lease_status(lease(1), Some(false));
    assert_eq!(summary(&update.changes), "-b Expired");
    assert_eq!(update.queries, []);
}

#[test]
fn the_removal_cause_is_queried_with_the_lease_of_the_last_put() {
    let mut directory = read([put(&instance("a"), 1)]);
    let update = apply(
        &mut directory,
        [KeyEvent::Put(put(&instance("a"), 2)), delete("a")],
    );
    assert_eq!(update.queries, [LeaseQuery { lease: lease(2) }]);
}

#[test]
fn a_removal_is_reported_before_the_same_key_is_added_again() {
    let mut directory = read([put(&instance("a"), 1)]);
    let update = apply(
        &mut directory,
        [delete("a"), KeyEvent::Put(put(&instance("a"), 2))],
    );
    assert_eq!(summary(&update.changes), "-a Unknown, +a");
    assert_eq!(
        summary(&directory.lease_status(lease(1), Some(false)).changes),
        "",
        "one removal has one cause"
    );

    let _ = apply(&mut directory, [delete("a")]);
    let update = directory.reset([put(&instance("a"), 3)], Revision::new(20));
    assert_eq!(summary(&update.changes), "-a Unknown, [+a]");
}

//! Denied permissions, and their effect on other calls.

use std::time::Duration;

use etcd_blocking::auth::Permission;
use etcd_blocking::{
    Compare, Delete, ErrorKind, Get, KeyRange, Put, Revision, TimeToLive, Txn, Watch,
};

use super::{LONG, NO_WAY_AROUND, enable, etcd, fails, user};
use crate::support::server::{Version, skip_before};

const DENIED: ErrorKind = ErrorKind::PermissionDenied;

// Case: A-12
#[test]
fn a_prefix_permission_ends_where_the_prefix_does() {
    let etcd = etcd(&[]);
    let _root = enable(&etcd);
    let alice = user(&etcd, "alice");
    alice.put("app/", "first").unwrap();
    alice.put("app/\u{ff}", "last").unwrap();
    assert_eq!(alice.get_prefix("app/").unwrap().len(), 2);
    let error = fails(alice.put("app0", "x"), DENIED);
    assert!(!error.outcome_unknown());
    fails(alice.put("app", "x"), DENIED);
    fails(alice.call(Get::range(KeyRange::from_key("app/"))), DENIED);
    fails(alice.call(Delete::range(KeyRange::all())), DENIED);
}

// Case: A-13
#[test]
fn a_transaction_is_denied_for_any_of_its_parts() {
    let etcd = etcd(&[]);
    let _root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let mine = || Put::new("app/k", "v");
    let there = || Compare::version("app/k").ne(0);
    alice
        .txn(Txn::when([there()]).then([mine()]).or_else([mine()]))
        .unwrap();
    for denied in [
        Txn::when([Compare::version("other").eq(0)]).then([mine()]),
        Txn::when([there()]).then([Put::new("other", "v")]),
        Txn::when([there()]).or_else([Put::new("other", "v")]),
        Txn::when([there()]).then([Get::key("other")]),
        Txn::when([there()]).then([Delete::key("other")]),
    ] {
        fails(alice.txn(denied), DENIED);
    }
}

// Case: A-13
#[test]
fn a_nested_transaction_without_permission_is_denied() {
    if skip_before(NO_WAY_AROUND, "nested transactions need no permission") {
        return;
    }
    let etcd = etcd(&[]);
    let _root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let there = || Compare::version("app/k").eq(0);
    let inner = || Txn::when([there()]).or_else([Put::new("other", "v")]);
    fails(alice.txn(Txn::when([there()]).then([inner()])), DENIED);
    fails(alice.txn(Txn::when([there()]).or_else([inner()])), DENIED);
}

// Case: A-14
#[test]
fn time_to_live_returns_the_keys_of_a_lease_only_to_users_who_may_read_them() {
    let fixed = [Version(3, 4, 26), Version(3, 5, 9)];
    if skip_before(
        &fixed,
        "the keys of a lease are returned without permission",
    ) {
        return;
    }
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let lease = alice.grant(Duration::from_secs(60)).unwrap();
    root.call(Put::new("secret", "x").lease(lease.id()))
        .unwrap();
    alice.time_to_live(lease.id()).unwrap();
    fails(alice.call(TimeToLive::new(lease.id()).keys()), DENIED);
    let keys = root.call(TimeToLive::new(lease.id()).keys()).unwrap();
    assert_eq!(keys.keys(), ["secret"]);
    fails(alice.revoke(lease.id()), DENIED);
}

// Case: A-17
#[test]
fn a_denied_watch_is_an_error_and_no_watch_is_left_on_the_server() {
    let fixed = [Version(3, 5, 33), Version(3, 6, 14), Version(3, 7, 1)];
    if skip_before(
        &fixed,
        "a permission for one key is enough to watch all after it",
    ) {
        return;
    }
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    root.auth().role_add("one").unwrap();
    root.auth()
        .role_grant_permission("one", Permission::read("one"))
        .unwrap();
    root.auth().user_add("bob", "bob-pw").unwrap();
    root.auth().user_grant_role("bob", "one").unwrap();
    let bob = user(&etcd, "bob");
    drop(bob.watch("one").unwrap());
    for _ in 0..20 {
        let error = fails(bob.watch(KeyRange::from_key("one")), DENIED);
        assert!(error.to_string().contains("permission denied"), "{error}");
        let watch = Watch::range(KeyRange::from_key("one")).start_revision(Revision::new(1));
        fails(bob.watch(watch), DENIED);
    }
    fails(bob.put("one", "x"), DENIED);
}

// Case: W-37
#[test]
fn a_denied_watch_does_not_affect_other_watches() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let first = alice.watch(KeyRange::prefix("app/")).unwrap();
    let second = alice.watch("app/b").unwrap();
    for round in 0..5 {
        fails(alice.watch(KeyRange::all()), DENIED);
        let watch = Watch::range(KeyRange::prefix("x")).start_revision(Revision::new(1));
        fails(alice.watch(watch), DENIED);
        root.put("app/b", round.to_string()).unwrap();
        for watch in [&first, &second] {
            let item = watch.receiver().recv_timeout(LONG).unwrap().unwrap();
            assert_eq!(item.events()[0].kv().value(), &round.to_string());
        }
    }
}

// Case: MI-03
#[test]
fn a_restricted_user_can_mirror_its_permitted_range() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    root.put("app/a", "1").unwrap();
    root.put("other", "x").unwrap();
    let alice = user(&etcd, "alice");
    let mirror = alice.mirror(KeyRange::prefix("app/")).unwrap();
    assert_eq!(mirror.snapshot().len(), 1);
    let revision = root.put("app/b", "2").unwrap().revision();
    mirror.wait_revision(revision, LONG).unwrap();
    assert_eq!(mirror.snapshot().len(), 2);
    fails(alice.mirror(KeyRange::all()), DENIED);
}

//! Views of a service: revoked permission, replaced store, compaction, and ten thousand expiries at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use etcd_blocking::auth::Permission;
use etcd_blocking::{Client, Protection, Revision};

use super::*;
use crate::support::server::{EARLY_PROGRESS, skip_before};

/// Instances below `/services/web/`, without a registrar.
fn put_instances(client: &Client, ids: std::ops::Range<usize>) -> Revision {
    let value = |n: usize| format!(r#"{{"addr":"127.0.1.1:{}"}}"#, n + 1);
    let puts: Vec<Put> = ids
        .map(|n| Put::new(format!("/services/web/{n:05}"), value(n)))
        .collect();
    let mut last = Revision::NONE;
    for some in puts.chunks(100) {
        last = client.txn(Txn::always(some.to_vec())).unwrap().revision();
    }
    last
}

// Fault: R12
#[test]
fn a_view_is_stale_while_its_read_permission_is_revoked() {
    let etcd = LocalEtcd::builder().arg("--bcrypt-cost=4").start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let open = client(&etcd);
    open.auth().role_add("reader").unwrap();
    let permission = Permission::read(KeyRange::prefix("/services/"));
    open.auth()
        .role_grant_permission("reader", permission)
        .unwrap();
    open.auth().user_add("alice", "pw").unwrap();
    open.auth().user_grant_role("alice", "reader").unwrap();
    open.auth().user_add("root", "pw").unwrap();
    open.auth().user_grant_role("root", "root").unwrap();
    open.auth().enable().unwrap();
    let user = |endpoint: String, name: &str| {
        Client::builder([endpoint])
            .allow_plaintext_credentials()
            .user(name, "pw")
            .connect()
            .unwrap()
    };
    let root = user(etcd.endpoint(), "root");
    let alice = user(proxy.endpoint(), "alice");
    put_instances(&root, 0..2);
    let view = Discovery::new(&alice).service("web").unwrap();
    let mirror = alice.mirror(KeyRange::prefix("/services/")).unwrap();
    let cache = etcd_blocking::mirror::Cache::open(&alice, "/services/").unwrap();
    assert!(view.last_error().is_none() && mirror.last_error().is_none());

    eventually(SOON, "the role is taken", || {
        root.auth().user_revoke_role("alice", "reader").ok()
    });
    proxy.drop_connections();
    let denied = |error: Option<etcd_blocking::Error>| {
        error.filter(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    eventually(SOON, "the view has the reason", || {
        denied(view.last_error())
    });
    eventually(SOON, "the mirror has the reason", || {
        denied(mirror.last_error())
    });
    eventually(SOON, "the cache has the reason", || {
        denied(cache.last_error())
    });
    assert!(view.staleness().is_some() && view.ended().is_none() && mirror.ended().is_none());
    assert_eq!(view.snapshot().len(), 2, "the last good list is shown");
    // Opening one fails at once.
    let refused = Discovery::new(&alice).service("web").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");

    put_instances(&root, 2..3);
    eventually(SOON, "the role is given back", || {
        root.auth().user_grant_role("alice", "reader").ok()
    });
    eventually(SOON, "the view is live again, with what it missed", || {
        (view.staleness().is_none() && view.snapshot().len() == 3).then_some(())
    });
    eventually(SOON, "the mirror and the cache are live again", || {
        let live = mirror.staleness().is_none() && cache.staleness().is_none();
        (live && mirror.snapshot().len() == 3 && cache.snapshot().len() == 3).then_some(())
    });
    assert!(view.last_error().is_none() && cache.last_error().is_none());
    put_instances(&root, 3..4);
    view.wait_for(4, SOON).unwrap();
}

// Fault: R13
#[test]
fn a_replaced_store_with_other_writes_empties_no_view() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let mut etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let far = Client::connect([proxy.endpoint()]).unwrap();
    let near = client(&etcd);
    put_instances(&near, 0..5);
    let view = Discovery::new(&far).service("web").unwrap();
    // The revision has increased since the last change of the service, and the client has received it.
    let mut seen = Revision::NONE;
    for n in 0..100 {
        seen = far.put("other", n.to_string()).unwrap().revision();
    }
    view.wait_revision(seen, SOON).unwrap();
    proxy.cut();
    etcd.restart_wiped().unwrap();
    let near = client(&etcd);
    for n in 0..50 {
        near.put(format!("others/{n}"), "x").unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let fewest = scope.spawn(|| {
            let mut fewest = usize::MAX;
            while !done.load(Ordering::SeqCst) {
                fewest = fewest.min(view.snapshot().len());
                thread::sleep(Duration::from_millis(1));
            }
            fewest
        });
        proxy.restore();
        // Instances are restored a moment later.
        thread::sleep(Duration::from_millis(500));
        put_instances(&near, 0..5);
        eventually(SOON, "the view follows", || {
            view.staleness().is_none().then_some(())
        });
        // The view follows the new store, and has all its instances.
        let last = put_instances(&near, 5..6);
        view.wait_revision(last, SOON).unwrap();
        done.store(true, Ordering::SeqCst);
        assert_eq!(fewest.join().unwrap(), 5);
    });
    assert_eq!(view.snapshot().len(), 6);
    let gone = view.changes().try_iter().filter(|c| c.gone().count() > 0);
    assert_eq!(gone.count(), 0, "no removal was reported");
}

// Fault: R14
#[test]
fn a_view_reaches_revisions_of_other_keys() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    put_instances(&client, 0..1);
    let view = Discovery::new(&client).service("web").unwrap();
    let elsewhere = client.put("elsewhere", "x").unwrap().revision();
    assert!(view.revision() < elsewhere);
    let shown = view.wait_revision(elsewhere, SOON).unwrap();
    assert_eq!(shown.len(), 1);
    assert!(view.revision() >= elsewhere);
    let late = view.wait_revision(elsewhere.next(), Duration::from_millis(200));
    let late = late.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    // And a revision of its own keys.
    let own = put_instances(&client, 1..2);
    assert_eq!(view.wait_revision(own, SOON).unwrap().len(), 2);
}

// Fault: R15, F36
#[test]
fn a_view_opens_during_frequent_compactions() {
    let etcd = LocalEtcd::start().unwrap();
    let near = client(&etcd);
    put_instances(&near, 0..5_000);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    proxy.delay(Dir::Both, Duration::from_millis(60));
    let far = Client::connect([proxy.endpoint()]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let last = near.put("other", "x").unwrap().revision();
                near.compact(last).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
        });
        for _ in 0..5 {
            let view = Discovery::new(&far).service("web");
            done.fetch_or(view.is_err(), Ordering::SeqCst);
            assert_eq!(view.unwrap().snapshot().len(), 5_000);
        }
        done.store(true, Ordering::SeqCst);
    });
}

// Fault: R17
#[test]
fn ten_thousand_removals_at_once_are_received_each_with_its_cause() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd);
    for cause in [Cause::Expired, Cause::Left] {
        let lease = client.grant(Duration::from_secs(600)).unwrap().id();
        let value = r#"{"addr":"127.0.1.1:1"}"#;
        for some in (0..10_000).collect::<Vec<_>>().chunks(100) {
            let put = |n: &i32| Put::new(format!("/services/web/{n:05}"), value).lease(lease);
            let puts: Vec<Put> = some.iter().map(put).collect();
            client.txn(Txn::always(puts)).unwrap();
        }
        // Ten thousand expiries are a mass expiry, which would be held.
        let raw = Discovery::new(&client).protection(Protection::off());
        let view = raw.service("web").unwrap();
        view.changes();
        match cause {
            Cause::Expired => drop(client.revoke(lease).unwrap()),
            _ => drop(client.call(Delete::prefix("/services/web/")).unwrap()),
        }
        let mut gone = std::collections::BTreeSet::new();
        while gone.len() < 10_000 {
            let change = view.changes().recv_timeout(SOON).unwrap();
            for (instance, why) in change.causes() {
                assert_eq!(why, cause, "{change:?}");
                assert!(gone.insert(instance.id.clone()), "reported once");
            }
        }
        assert!(view.snapshot().is_empty());
    }
}

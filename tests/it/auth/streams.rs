//! Streams whose user loses a permission.

use std::time::Duration;

use etcd_blocking::mirror::Mirror;
use etcd_blocking::{Client, Discovery, ErrorKind, Instance, KeyRange, Registrar, State, Watcher};

use super::{
    LONG, NO_WAY_AROUND, authentications, enable, etcd, fails, invalidate_tokens_of_alice, user,
};
use crate::support::proxy::Proxy;
use crate::support::server::skip_before;
use crate::support::wait::eventually;

fn through(proxy: &Proxy, name: &str) -> Client {
    Client::builder([proxy.endpoint()])
        .allow_plaintext_credentials()
        .timeout(LONG)
        .user(name, format!("{name}-pw"))
        .connect()
        .unwrap()
}

/// Reads a watch to its end, and returns the last item.
#[track_caller]
fn last_item(watch: &Watcher, kind: ErrorKind) {
    loop {
        match watch.receiver().recv_timeout(LONG).unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), kind, "{error}");
                break;
            }
        }
    }
    assert!(
        watch.receiver().recv_timeout(LONG).is_err(),
        "that was the last"
    );
}

/// Waits until the mirror reports that it is stale, with the reason; it does not end.
#[track_caller]
fn stale(mirror: &Mirror, kind: ErrorKind) {
    eventually(LONG, "the mirror is stale", || {
        let why = mirror.last_error()?;
        (mirror.staleness().is_some() && why.kind() == kind).then_some(())
    });
    assert!(mirror.ended().is_none());
}

// Fault: F19
#[test]
fn a_watch_continues_with_a_new_token_when_its_token_is_invalid() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    for round in 0..5 {
        invalidate_tokens_of_alice(&root);
        // The server checks the token of a stream when a watch is created on it.
        let another = alice.watch("app/k").unwrap();
        root.put("app/k", round.to_string()).unwrap();
        for watch in [&watch, &another] {
            let item = watch.receiver().recv_timeout(LONG).unwrap().unwrap();
            assert_eq!(item.events()[0].kv().value(), &round.to_string());
        }
    }
}

/// etcd keeps a running watch after the permission of its user is revoked.
/// When it must be created anew, it is refused, and its last item is the error.
// Fault: F20
#[test]
fn a_revoked_permission_ends_watches_when_they_resume() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let alice = through(&proxy, "alice");
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    let mirror = alice.mirror(KeyRange::prefix("app/")).unwrap();
    root.auth().role_add("other").unwrap();
    let other = etcd_blocking::auth::Permission::read_write(KeyRange::prefix("other/"));
    root.auth().role_grant_permission("other", other).unwrap();
    root.auth().user_grant_role("alice", "other").unwrap();
    let unharmed = alice.watch(KeyRange::prefix("other/")).unwrap();
    root.auth().user_revoke_role("alice", "app").unwrap();
    fails(alice.get("app/k"), ErrorKind::PermissionDenied);
    proxy.drop_connections();
    last_item(&watch, ErrorKind::PermissionDenied);
    stale(&mirror, ErrorKind::PermissionDenied);
    root.put("other/k", "v").unwrap();
    unharmed.receiver().recv_timeout(LONG).unwrap().unwrap();
}

// Fault: F21
#[test]
fn a_deleted_user_ends_watches_and_leases_and_makes_mirrors_stale() {
    if skip_before(NO_WAY_AROUND, "a lease is renewed without permission") {
        return;
    }
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let alice = through(&proxy, "alice");
    let watches: Vec<_> = (0..20)
        .map(|n| alice.watch(format!("app/{n}")).unwrap())
        .collect();
    let mirror = alice.mirror(KeyRange::prefix("app/")).unwrap();
    let lease = alice.grant(Duration::from_secs(3)).unwrap();
    let alive = alice.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(LONG).unwrap().unwrap();
    root.auth().user_delete("alice").unwrap();
    let before = authentications(&etcd);
    proxy.drop_connections();
    for watch in &watches {
        last_item(watch, ErrorKind::Unauthenticated);
    }
    stale(&mirror, ErrorKind::Unauthenticated);
    let gone = loop {
        if let Err(error) = alive.receiver().recv_timeout(LONG).unwrap() {
            break error;
        }
    };
    assert_eq!(gone.kind(), ErrorKind::LeaseExpired, "{gone}");
    assert!(gone.to_string().contains("authentication failed"), "{gone}");
    assert!(authentications(&etcd) - before <= 2, "the answer is cached");
}

#[test]
fn a_snapshot_begins_with_a_new_token_when_its_token_is_invalid() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let other = user(&etcd, "root");
    root.maintenance().snapshot_to(Vec::new()).unwrap();
    // A change of root's password, so that both lose their tokens.
    other
        .auth()
        .user_change_password("root", "root-pw")
        .unwrap();
    root.maintenance().snapshot_to(Vec::new()).unwrap();
    let alice = user(&etcd, "alice");
    fails(
        alice.maintenance().snapshot_to(Vec::new()),
        ErrorKind::PermissionDenied,
    );
}

#[test]
fn a_password_change_ends_the_streams_of_clients_with_the_old_password() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let alice = through(&proxy, "alice");
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    root.auth()
        .user_change_password("alice", "other-pw")
        .unwrap();
    proxy.drop_connections();
    last_item(&watch, ErrorKind::Unauthenticated);
}

#[test]
fn a_registration_without_write_permission_is_lost_and_restored_when_permitted() {
    if skip_before(NO_WAY_AROUND, "nested transactions need no permission") {
        return;
    }
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let services = || etcd_blocking::auth::Permission::read_write(KeyRange::prefix("app/"));
    let alice = user(&etcd, "alice");
    let registrar = Registrar::builder(&alice)
        .prefix("app")
        .ttl(Duration::from_secs(5))
        .start()
        .unwrap();
    let registration = registrar
        .register(Instance::new("api", "127.0.1.1:80"))
        .unwrap();
    let view = Discovery::new(&root).prefix("app").service("api").unwrap();
    view.wait_for(1, LONG).unwrap();
    root.auth()
        .role_revoke_permission("app", KeyRange::prefix("app/"))
        .unwrap();
    for lease in root.leases().unwrap().ids() {
        root.revoke(*lease).unwrap();
    }
    eventually(LONG, "it is lost", || {
        matches!(registration.state(), State::Lost { .. }).then_some(())
    });
    let error = registration
        .wait_registered(Duration::from_secs(2))
        .unwrap_err();
    assert!(error.to_string().contains("permission denied"), "{error}");
    root.auth()
        .role_grant_permission("app", services())
        .unwrap();
    registration.wait_registered(LONG).unwrap();
    view.wait_for(1, LONG).unwrap();
    registration.leave().unwrap();
}

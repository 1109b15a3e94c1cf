//! Requests about users and roles, and the credentials of a client.

use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use etcd_blocking::auth::{Access, Authenticate, Permission, UserAdd};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Get, KeyRange};

use super::{NO_WAY_AROUND, authentications, builder, enable, etcd, fails, user};
use crate::support::server::{skip_before, skip_unless_since};

// Case: A-22
#[test]
fn every_auth_request_has_its_effect_and_none_creates_a_revision() {
    if skip_unless_since(3, 5, "there is no AuthStatus") {
        return;
    }
    let etcd = etcd(&[]);
    let client = builder(&etcd).connect().unwrap();
    let before = client.put("k", "v").unwrap().revision();
    let status = client.auth().status().unwrap();
    assert!(!status.is_enabled());

    client.auth().user_add("alice", "pw").unwrap();
    client.call(UserAdd::no_password("bob")).unwrap();
    fails(
        client.auth().user_add("alice", "pw"),
        ErrorKind::AlreadyExists,
    );
    assert_eq!(client.auth().user_list().unwrap().users(), ["alice", "bob"]);
    client.auth().role_add("r").unwrap();
    client.auth().role_add("s").unwrap();
    fails(client.auth().role_add("r"), ErrorKind::AlreadyExists);
    assert_eq!(client.auth().role_list().unwrap().roles(), ["r", "s"]);
    client.auth().user_grant_role("alice", "r").unwrap();
    client.auth().user_grant_role("alice", "s").unwrap();
    assert_eq!(client.auth().user_get("alice").unwrap().roles(), ["r", "s"]);
    client.auth().user_revoke_role("alice", "s").unwrap();
    assert_eq!(client.auth().user_get("alice").unwrap().roles(), ["r"]);
    fails(
        client.auth().user_revoke_role("alice", "s"),
        ErrorKind::NotFound,
    );
    client.auth().user_change_password("alice", "pw2").unwrap();

    let granted = [
        Permission::read("one"),
        Permission::write(KeyRange::range("a", "b")),
        Permission::read_write(KeyRange::prefix("app/")),
        Permission::read(KeyRange::from_key("x")),
    ];
    for permission in &granted {
        client
            .auth()
            .role_grant_permission("r", permission.clone())
            .unwrap();
    }
    let role = client.auth().role_get("r").unwrap();
    assert_eq!(role.permissions().len(), granted.len());
    for permission in &granted {
        assert!(role.permissions().contains(permission), "{permission}");
    }
    client
        .auth()
        .role_grant_permission("r", Permission::write("one"))
        .unwrap();
    client
        .auth()
        .role_revoke_permission("r", KeyRange::prefix("app/"))
        .unwrap();
    fails(
        client
            .auth()
            .role_revoke_permission("r", KeyRange::prefix("app/")),
        ErrorKind::NotFound,
    );
    let role = client.auth().role_get("r").unwrap();
    let one = role
        .permissions()
        .iter()
        .find(|p| p.keys().is_single())
        .unwrap();
    assert_eq!((one.access(), role.permissions().len()), (Access::Write, 3));

    client.auth().role_delete("s").unwrap();
    client.auth().user_delete("bob").unwrap();
    fails(client.auth().role_get("s"), ErrorKind::NotFound);
    fails(client.auth().user_get("bob"), ErrorKind::NotFound);
    fails(client.auth().user_delete("bob"), ErrorKind::NotFound);
    let after = client.auth().status().unwrap();
    assert!(after.auth_revision() > status.auth_revision());
    assert_eq!(
        client.put("k", "v").unwrap().revision().get(),
        before.get() + 1
    );

    fails(
        client.call(Authenticate::new("alice", "pw2")),
        ErrorKind::FailedPrecondition,
    );
    fails(client.auth().enable(), ErrorKind::FailedPrecondition);
    client.auth().user_add("root", "root-pw").unwrap();
    fails(client.auth().enable(), ErrorKind::FailedPrecondition);
    client.auth().role_add("root").unwrap();
    client.auth().user_grant_role("root", "root").unwrap();
    client.auth().enable().unwrap();
    let root = user(&etcd, "root");
    assert!(root.auth().status().unwrap().is_enabled());
    let token = root.call(Authenticate::new("alice", "pw2")).unwrap();
    let alice = builder(&etcd).token(token.token()).connect().unwrap();
    assert_eq!(alice.auth().user_get("alice").unwrap().roles(), ["r"]);
    root.auth().disable().unwrap();
    assert!(!root.auth().status().unwrap().is_enabled());
}

#[test]
fn invalid_requests_are_refused_before_sending() {
    let client = Client::connect(["http://127.0.0.1:1"]).unwrap();
    let invalid = ErrorKind::InvalidArgument;
    fails(client.auth().user_add("", "pw"), invalid);
    fails(client.auth().user_add("u", ""), invalid);
    fails(client.auth().user_get(""), invalid);
    fails(client.auth().user_delete(""), invalid);
    fails(client.auth().user_change_password("u", ""), invalid);
    fails(client.auth().user_grant_role("u", ""), invalid);
    fails(client.auth().role_add(""), invalid);
    fails(
        client
            .auth()
            .role_grant_permission("r", Permission::read("")),
        invalid,
    );
    let error = fails(
        client
            .auth()
            .role_revoke_permission("r", KeyRange::range("b", "a")),
        invalid,
    );
    assert!(
        error
            .to_string()
            .starts_with("role revoke permission \"r\" \"b\"..\"a\": "),
        "{error}"
    );
}

// Case: A-07
#[test]
fn credentials_that_cannot_work_are_refused_by_connect() {
    let tcp = || Client::builder(["http://127.0.0.1:1"]);
    let refused = |builder: etcd_blocking::ClientBuilder| {
        fails(builder.connect(), ErrorKind::InvalidArgument).to_string()
    };
    let both = tcp()
        .user("u", "canary")
        .token("canary")
        .allow_plaintext_credentials();
    assert!(refused(both).contains("exclude each other"));
    for bare in [tcp().user("u", "canary"), tcp().token("canary")] {
        let text = refused(bare);
        assert!(
            text.contains("without encryption") && !text.contains("canary"),
            "{text}"
        );
    }
    for empty in [
        tcp().user("", "canary"),
        tcp().user("u", ""),
        tcp().token(""),
        tcp().token("a\nb"),
    ] {
        refused(empty.allow_plaintext_credentials());
    }
    let socket = Client::builder(["unix:no-such-socket"])
        .user("u", "canary")
        .connect()
        .unwrap();
    // Endpoints that are set or discovered later do not receive them either.
    let elsewhere = "http://127.0.0.1:2379";
    let sent = [
        socket.at(elsewhere).map(drop),
        socket.set_endpoints([elsewhere]),
    ];
    for refused in sent {
        let text = fails(refused, ErrorKind::InvalidArgument).to_string();
        assert!(text.contains("without encryption"), "{text}");
    }
    tcp()
        .token("t")
        .allow_plaintext_credentials()
        .connect()
        .unwrap();
    let url = Client::connect(["http://root:canary@127.0.0.1:2379"]);
    assert!(
        !fails(url, ErrorKind::InvalidArgument)
            .to_string()
            .contains("canary")
    );
}

/// A Unix socket that forwards to a server until the end of the process.
fn socket_to(etcd: &LocalEtcd) -> String {
    let name = format!("etcd-blocking-socket-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let (listener, server) = (UnixListener::bind(&path).unwrap(), etcd.client_addr());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut up, &mut &server));
            std::thread::spawn(move || std::io::copy(&mut down, &mut &client));
        }
    });
    format!("unix:{}", path.display())
}

#[test]
fn credentials_are_not_sent_in_plaintext_to_discovered_endpoints() {
    let etcd = etcd(&[]);
    let _root = enable(&etcd);
    let socket = socket_to(&etcd);
    let builder = || Client::builder([&socket]).user("root", "root-pw");
    let client = builder().connect().unwrap();
    assert_eq!(client.sync_endpoints().unwrap(), [&*socket]);
    assert_eq!(client.endpoints(), [&*socket]);
    client.auth().user_list().unwrap();
    let permitted = builder().allow_plaintext_credentials().connect().unwrap();
    let both = permitted.sync_endpoints().unwrap();
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.contains(&etcd.endpoint()), "{both:?}");
    std::fs::remove_file(socket.trim_start_matches("unix:")).unwrap();
}

// Case: A-02
#[test]
fn with_authentication_enabled_a_client_without_a_user_is_refused() {
    let etcd = etcd(&[]);
    let _root = enable(&etcd);
    let nobody = builder(&etcd).connect().unwrap();
    let kind = ErrorKind::Unauthenticated;
    let error = fails(nobody.put("app/k", "v"), kind);
    assert!(error.to_string().contains("user name is empty") && !error.outcome_unknown());
    fails(nobody.get("app/k"), kind);
    fails(nobody.watch("app/k"), kind);
    fails(nobody.mirror("app/k"), kind);
    fails(nobody.auth().user_list(), kind);
}

// Case: A-14
#[test]
fn with_authentication_enabled_lease_requests_need_a_user() {
    if skip_before(NO_WAY_AROUND, "a lease is granted without a user") {
        return;
    }
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let nobody = builder(&etcd).connect().unwrap();
    fails(
        nobody.grant(Duration::from_secs(10)),
        ErrorKind::Unauthenticated,
    );
    let lease = root.grant(Duration::from_secs(60)).unwrap();
    fails(
        nobody.keep_alive_once(lease.id()),
        ErrorKind::Unauthenticated,
    );
    fails(nobody.leases(), ErrorKind::Unauthenticated);
}

// Case: A-03
#[test]
fn a_wrong_password_fails_the_first_call_and_is_checked_once() {
    let etcd = etcd(&[]);
    let _root = enable(&etcd);
    let before = authentications(&etcd);
    let wrong = builder(&etcd).user("alice", "canary").connect().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let error = fails(wrong.get("app/k"), ErrorKind::Unauthenticated);
                    let text = error.to_string();
                    assert!(text.contains("authentication failed") && text.contains("\"alice\""));
                    assert!(!text.contains("canary"), "{text}");
                }
            });
        }
    });
    fails(wrong.watch("app/k"), ErrorKind::Unauthenticated);
    fails(wrong.mirror("app/k"), ErrorKind::Unauthenticated);
    assert_eq!(
        authentications(&etcd) - before,
        1,
        "one password, one check"
    );
    let stranger = builder(&etcd).user("nobody", "pw").connect().unwrap();
    fails(stranger.get("app/k"), ErrorKind::Unauthenticated);
}

// Fault: F21
#[test]
fn a_corrected_password_is_accepted_after_the_failure_cache_expires() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let client = builder(&etcd).user("alice", "new-pw").connect().unwrap();
    let begun = Instant::now();
    fails(client.get("app/k"), ErrorKind::Unauthenticated);
    root.auth().user_change_password("alice", "new-pw").unwrap();
    crate::support::wait::eventually(Duration::from_secs(30), "the new password works", || {
        client.get("app/k").ok()
    });
    assert!(
        begun.elapsed() >= Duration::from_secs(4),
        "the refused password is not checked again at once"
    );
}

// Case: A-05
#[test]
fn credentials_are_unused_until_authentication_is_enabled() {
    let etcd = etcd(&[]);
    let alice = user(&etcd, "alice");
    alice.put("app/k", "1").unwrap();
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    // Long enough for a server that is busy hashing passwords.
    let lease = alice.grant(Duration::from_secs(9)).unwrap();
    let alive = alice.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(super::LONG).unwrap().unwrap();
    let _root = enable(&etcd);
    alice.put("app/k", "2").unwrap();
    drop(alice.watch("app/other").unwrap());
    for _ in 0..3 {
        alive.receiver().recv_timeout(super::LONG).unwrap().unwrap();
    }
    let item = watch.receiver().recv_timeout(super::LONG).unwrap().unwrap();
    assert_eq!(item.events()[0].kv().value(), "2");
    fails(alice.put("other", "x"), ErrorKind::PermissionDenied);
}

// Case: A-08
#[test]
fn switching_authentication_off_and_on_fails_no_call() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let watch = alice.watch(KeyRange::prefix("app/")).unwrap();
    for round in 0..3 {
        alice.put("app/k", format!("on {round}")).unwrap();
        root.auth().disable().unwrap();
        alice.put("app/k", format!("off {round}")).unwrap();
        let nobody = builder(&etcd).connect().unwrap();
        nobody.call(Get::key("app/k")).unwrap();
        nobody.auth().enable().unwrap();
    }
    alice.put("app/k", "last").unwrap();
    drop(alice.watch("app/z").unwrap());
    let mut values = Vec::new();
    while values.last().is_none_or(|last| last != "last") {
        let item = watch.receiver().recv_timeout(super::LONG).unwrap().unwrap();
        values.extend(item.events().iter().map(|e| e.kv().value().clone()));
    }
    assert_eq!(values.len(), 7, "{values:?}");
}

// Case: A-20
#[test]
fn root_cannot_be_removed_while_authentication_is_enabled() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    fails(root.auth().user_delete("root"), ErrorKind::InvalidArgument);
    fails(
        root.auth().user_revoke_role("root", "root"),
        ErrorKind::InvalidArgument,
    );
    assert_eq!(root.auth().user_list().unwrap().users(), ["alice", "root"]);
}

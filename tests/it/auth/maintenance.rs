//! Maintenance requests with authentication, also on streams and aimed views.

use std::io;
use std::time::Duration;

use etcd_blocking::ErrorKind;

use super::{enable, etcd, invalidate_tokens_of_alice, user};
use crate::support::wait::eventually;

// Case: M-10
#[test]
fn a_member_that_denies_the_user_is_healthy() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    for client in [&root, &alice] {
        let health = client.maintenance().health().unwrap();
        assert!(
            health[0].is_healthy() && health[0].is_reachable,
            "{health:?}"
        );
    }
    // A client without a user is refused for another reason.
    let nobody = super::builder(&etcd).connect().unwrap();
    assert!(!nobody.maintenance().health().unwrap()[0].is_healthy());
}

#[test]
fn a_snapshot_needs_root_and_its_stream_has_a_new_token() {
    let etcd = etcd(&["--auth-token-ttl=1"]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    let refused = alice.maintenance().snapshot().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    root.maintenance().snapshot_to(io::sink()).unwrap();
    // Unused tokens expire; each snapshot begins with a valid one.
    let quiet = super::builder(&etcd).user("root", "root-pw").connect();
    let quiet = quiet.unwrap();
    quiet.put("k", "v").unwrap();
    let before = super::authentications(&etcd);
    eventually(Duration::from_secs(30), "its token has expired", || {
        // A used token does not expire: it must be unused for longer than its TTL.
        std::thread::sleep(Duration::from_secs(2));
        quiet.maintenance().snapshot_to(io::sink()).unwrap();
        (super::authentications(&etcd) > before).then_some(())
    });
}

#[test]
fn a_view_shares_the_token_of_its_client() {
    let etcd = etcd(&[]);
    let root = enable(&etcd);
    let alice = user(&etcd, "alice");
    alice.put("app/k", "v").unwrap();
    let before = super::authentications(&etcd);
    let view = alice.at(etcd.endpoint()).unwrap();
    view.put("app/k", "w").unwrap();
    assert_eq!(super::authentications(&etcd), before, "it has one already");
    invalidate_tokens_of_alice(&root);
    view.put("app/k", "x").unwrap();
    alice.put("app/k", "y").unwrap();
    assert_eq!(super::authentications(&etcd), before + 1);
}

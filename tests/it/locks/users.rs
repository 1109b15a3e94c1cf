//! Locks and elections of a user with few permissions.

use std::thread;

use etcd_blocking::concurrency::{Election, Mutex};
use etcd_blocking::{ClientBuilder, KeyRange, Permission};

use super::*;

/// An etcd with users, and a client of one who may do everything below `app/`, and nothing else.
fn limited() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::builder().arg("--bcrypt-cost=4").start().unwrap();
    let anybody = Client::connect([etcd.endpoint()]).unwrap();
    anybody.role_add("app").unwrap();
    let permission = Permission::read_write(KeyRange::prefix("app/"));
    anybody.role_grant_permission("app", permission).unwrap();
    for (user, role) in [("alice", "app"), ("root", "root")] {
        anybody.user_add(user, "secret").unwrap();
        anybody.user_grant_role(user, role).unwrap();
    }
    anybody.auth_enable().unwrap();
    let builder: ClientBuilder = Client::builder([etcd.endpoint()]);
    let alice = builder
        .timeout(secs(20))
        .allow_plaintext_credentials()
        .user("alice", "secret")
        .connect()
        .unwrap();
    (etcd, alice)
}

// Case: E-09
#[test]
fn an_election_needs_no_more_than_its_keys() {
    let (_etcd, alice) = limited();
    let (a, b) = (session(&alice), session(&alice));
    let election = Election::new(&a, "app/vote");
    let observer = election.observe().unwrap();
    assert!(observer.recv_timeout(SOON).unwrap().unwrap().is_none());
    let leads = election.campaign("a").unwrap();
    assert_eq!(
        observer
            .recv_timeout(SOON)
            .unwrap()
            .unwrap()
            .unwrap()
            .value(),
        "a"
    );
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Election::new(&b, "app/vote").campaign_timeout("b", secs(60)));
        keys_become(&alice, "app/vote/", 2);
        leads.resign().unwrap();
        assert!(waiting.join().unwrap().is_ok());
    });
}

#[test]
fn what_is_not_permitted_is_refused_at_once_and_leaves_nothing() {
    let (_etcd, alice) = limited();
    let session = session(&alice);
    let mutex = Mutex::new(&session, "other/lock");
    for error in [
        mutex.lock().unwrap_err(),
        mutex.try_lock().unwrap_err(),
        Election::new(&session, "other/vote")
            .campaign("a")
            .unwrap_err(),
        Election::new(&session, "other/vote").leader().unwrap_err(),
        alice.lock("other/lock", &session).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
    assert!(Mutex::new(&session, "app/lock").lock().is_ok());
    let locked = alice.lock("app/lock", &session).unwrap();
    alice.unlock(locked.key().clone()).unwrap();
}

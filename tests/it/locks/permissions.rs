//! Locks and elections of a user with minimal permissions.

use std::thread;

use etcd_blocking::auth::Permission;
use etcd_blocking::concurrency::{Election, Mutex};
use etcd_blocking::{ClientBuilder, KeyRange};

use super::*;

/// An etcd with users, and a client of a user who may read and write below `app/` and nothing else.
fn etcd_with_limited_user(cost: &str) -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::builder().arg(cost).start().unwrap();
    let anybody = Client::connect([etcd.endpoint()]).unwrap();
    anybody.auth().role_add("app").unwrap();
    let permission = Permission::read_write(KeyRange::prefix("app/"));
    anybody
        .auth()
        .role_grant_permission("app", permission)
        .unwrap();
    for (user, role) in [("alice", "app"), ("root", "root")] {
        anybody.auth().user_add(user, "secret").unwrap();
        anybody.auth().user_grant_role(user, role).unwrap();
    }
    anybody.auth().enable().unwrap();
    let alice = user(&etcd, "alice");
    (etcd, alice)
}

fn user(etcd: &LocalEtcd, name: &str) -> Client {
    let builder: ClientBuilder = Client::builder([etcd.endpoint()]);
    builder
        .timeout(secs(20))
        .allow_plaintext_credentials()
        .user(name, "secret")
        .connect()
        .unwrap()
}

// Case: E-09
#[test]
fn an_election_needs_permissions_on_its_keys_only() {
    let (_etcd, alice) = etcd_with_limited_user("--bcrypt-cost=4");
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
fn an_unlock_that_times_out_before_a_new_token_is_completed_in_the_background() {
    // The server takes half a second to check a password.
    let (etcd, alice) = etcd_with_limited_user("--bcrypt-cost=13");
    let root = user(&etcd, "root");
    let other = session(&alice);
    // Its timeout is shorter than the fetch of a token.
    let hasty = alice.with_timeout(Duration::from_millis(200));
    let mine = eventually(secs(60), "a session", || {
        Session::builder(&hasty).ttl(secs(60)).start().ok()
    });
    let guard = Mutex::new(&mine, "app/lock")
        .lock_timeout(secs(60))
        .unwrap();
    root.auth().user_change_password("alice", "secret").unwrap();
    let error = guard.unlock().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let lock = Mutex::new(&other, "app/lock").lock_timeout(secs(60));
    assert!(lock.is_ok() && mine.check().is_ok(), "{lock:?}");
}

#[test]
fn locks_without_permission_are_refused_at_once_and_leave_no_key() {
    let (_etcd, alice) = etcd_with_limited_user("--bcrypt-cost=4");
    let session = session(&alice);
    let mutex = Mutex::new(&session, "other/lock");
    for error in [
        mutex.lock().unwrap_err(),
        mutex.try_lock().unwrap_err(),
        Election::new(&session, "other/vote")
            .campaign("a")
            .unwrap_err(),
        Election::new(&session, "other/vote").leader().unwrap_err(),
        alice
            .lock_service()
            .lock("other/lock", &session)
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
    assert!(Mutex::new(&session, "app/lock").lock().is_ok());
    let locked = alice.lock_service().lock("app/lock", &session).unwrap();
    alice.lock_service().unlock(locked.key().clone()).unwrap();
}

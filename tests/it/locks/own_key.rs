//! Waiters whose own key is deleted: the error is returned at once.

use std::thread;

use etcd_blocking::Error;
use etcd_blocking::concurrency::{Election, Mutex, RwLock};

use super::*;

/// Longer than the test takes, so that no timeout occurs.
const LONG: Duration = Duration::from_secs(60);

/// Deletes the key of `waiter` while `wait` waits for a holder that stays, and returns the
/// result of the wait.
fn wait_ends_with(
    client: &Client,
    prefix: &str,
    wait: impl FnOnce() -> Option<Error> + Send,
    delete: impl FnOnce(String),
) -> Error {
    thread::scope(|scope| {
        let waiting = scope.spawn(wait);
        keys_become(client, prefix, 2);
        // The newest key is that of the waiter.
        let kvs = client.get_prefix(prefix.to_owned()).unwrap();
        let own = kvs.iter().max_by_key(|kv| kv.create_revision()).unwrap();
        delete(own.key_lossy().into_owned());
        waiting.join().unwrap().expect("the holder is still there")
    })
}

// Fault: W6
#[test]
fn a_waiter_fails_at_once_when_its_key_is_deleted() {
    let (_etcd, client) = start();
    let (holder, waiter) = (session(&client), session(&client));
    let _guards = (
        Mutex::new(&holder, "mutex").lock().unwrap(),
        RwLock::new(&holder, "rw").write().unwrap(),
        Election::new(&holder, "vote").campaign("").unwrap(),
    );
    let delete = |key: String| drop(client.delete(key).unwrap());
    let mutex = Mutex::new(&waiter, "mutex");
    let lock = RwLock::new(&waiter, "rw");
    let vote = Election::new(&waiter, "vote");
    let ends = [
        wait_ends_with(&client, "mutex/", || mutex.lock_timeout(LONG).err(), delete),
        wait_ends_with(&client, "rw/", || lock.read_timeout(LONG).err(), delete),
        wait_ends_with(&client, "rw/", || lock.write_timeout(LONG).err(), delete),
        wait_ends_with(
            &client,
            "vote/",
            || vote.campaign_timeout("", LONG).err(),
            delete,
        ),
    ];
    for end in ends {
        assert_eq!(end.kind(), ErrorKind::NotFound, "{end}");
    }
    // The session is still valid.
    assert!(waiter.check().is_ok());
    assert!(Mutex::new(&waiter, "other").lock().is_ok());
}

// Fault: W6
#[test]
fn a_waiter_fails_at_once_when_its_lease_is_revoked() {
    let (_etcd, client) = start();
    let holder = session(&client);
    // Its next renewal is 100 s away.
    let waiter = Session::builder(&client).ttl(secs(300)).start().unwrap();
    let _guard = Mutex::new(&holder, "mutex").lock().unwrap();
    let mutex = Mutex::new(&waiter, "mutex");
    let end = wait_ends_with(
        &client,
        "mutex/",
        || mutex.lock_timeout(LONG).err(),
        |_| assert!(client.revoke(waiter.lease()).is_ok()),
    );
    assert_eq!(end.kind(), ErrorKind::LeaseNotFound, "{end}");
}

#[test]
fn a_waiter_does_not_use_a_later_key_of_its_session() {
    let (_etcd, client) = start();
    let (holder, waiter) = (session(&client), session(&client));
    let guard = Mutex::new(&holder, "lock").lock().unwrap();
    let mutex = Mutex::new(&waiter, "lock");
    thread::scope(|scope| {
        let first = scope.spawn(|| mutex.lock_timeout(LONG));
        keys_become(&client, "lock/", 2);
        let key = format!("lock/{:x}", waiter.lease().get());
        client.delete(key).unwrap();
        let second = scope.spawn(|| mutex.lock_timeout(LONG));
        let lost = first.join().unwrap().unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::NotFound, "{lost}");
        keys_become(&client, "lock/", 2);
        guard.unlock().unwrap();
        assert!(second.join().unwrap().unwrap().verify().is_ok());
    });
}

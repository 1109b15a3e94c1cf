//! Mutexes: one holder at a time, in order of arrival, and no keys left.

use std::thread;
use std::time::Instant;

use etcd_blocking::concurrency::Mutex;
use etcd_blocking::local::LocalCluster;
use etcd_blocking::{Compare, Revision, Txn};

use super::*;
use crate::support::child::within;

/// Adds one to a counter, if it is unchanged since the read and the lock is still held.
fn increment(client: &Client, owner: Compare) -> bool {
    let counter = client.get("counter").unwrap().unwrap();
    let n: u64 = counter.value_str().unwrap().parse().unwrap();
    let unchanged = Compare::mod_revision("counter").eq(counter.mod_revision());
    let put = Put::new("counter", (n + 1).to_string());
    let written = client.txn(Txn::when([unchanged, owner]).then([put]));
    written.unwrap().succeeded()
}

/// Threads that lock in turn; each turn is one increment, which would fail with two holders.
fn take_turns(endpoints: &[String], lockers: u64, rounds: u64) {
    let client = Client::connect(endpoints).unwrap();
    client.put("counter", "0").unwrap();
    let tokens: Vec<Revision> = thread::scope(|scope| {
        let threads: Vec<_> = (0..lockers)
            .map(|_| {
                scope.spawn(|| {
                    let client = Client::connect(endpoints).unwrap();
                    let session = session(&client);
                    let mutex = Mutex::new(&session, "lock");
                    let mut tokens = Vec::new();
                    for _ in 0..rounds {
                        let guard = mutex.lock_timeout(secs(60)).unwrap();
                        assert!(increment(&client, guard.is_owner()), "two held the lock");
                        tokens.push(guard.fencing_token());
                        guard.unlock().unwrap();
                    }
                    assert!(tokens.is_sorted_by(|a, b| a < b), "tokens grow");
                    tokens
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    let counter = client.get("counter").unwrap().unwrap();
    assert_eq!(counter.value(), (lockers * rounds).to_string().as_str());
    assert_eq!(tokens.len() as u64, lockers * rounds);
    let mut distinct = tokens.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), tokens.len(), "a token twice");
    assert!(keys(&client, "lock/").is_empty());
}

// Case: S-02
#[test]
fn a_mutex_has_one_holder_at_a_time() {
    let (etcd, _client) = start();
    take_turns(&[etcd.endpoint()], 5, 20);
}

// Case: S-02
#[test]
fn a_mutex_has_one_holder_at_a_time_across_all_members() {
    let cluster = LocalCluster::start(3).unwrap();
    take_turns(&cluster.endpoints(), 5, 10);
}

// Case: S-03
#[test]
fn try_lock_succeeds_once_and_failed_attempts_leave_no_key() {
    let (_etcd, client) = start();
    let sessions: Vec<_> = (0..5).map(|_| session(&client)).collect();
    let held: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .iter()
            .map(|session| scope.spawn(|| Mutex::new(session, "lock").try_lock().unwrap()))
            .collect();
        threads
            .into_iter()
            .filter_map(|t| t.join().unwrap())
            .collect()
    });
    assert_eq!(held.len(), 1);
    assert_eq!(keys(&client, "lock/").len(), 1);
    drop(held);
    assert!(keys(&client, "lock/").is_empty());
    assert!(
        Mutex::new(&sessions[4], "lock")
            .try_lock()
            .unwrap()
            .is_some()
    );
}

// Case: S-04
#[test]
fn a_session_can_lock_again_and_the_last_guard_unlocks() {
    let (_etcd, client) = start();
    let (mine, other) = (session(&client), session(&client));
    let first = Mutex::new(&mine, "lock").lock().unwrap();
    let second = within(SOON, {
        let mine = mine.clone();
        move || Mutex::new(&mine, "lock").lock().unwrap()
    });
    let third = Mutex::new(&mine, "lock").try_lock().unwrap().unwrap();
    assert_eq!(first.fencing_token(), second.fencing_token());
    let theirs = Mutex::new(&other, "lock");
    for guard in [first, third] {
        guard.unlock().unwrap();
        assert!(theirs.try_lock().unwrap().is_none());
    }
    assert!(second.verify().is_ok());
    drop(second);
    assert!(theirs.try_lock().unwrap().is_some());
}

// Case: S-05
#[test]
fn after_a_middle_waiter_leaves_the_next_one_waits_for_the_holder() {
    let (_etcd, client) = start();
    let (holder, middle, last) = (session(&client), session(&client), session(&client));
    let guard = Mutex::new(&holder, "lock").lock().unwrap();
    thread::scope(|scope| {
        let gone = scope.spawn(|| {
            Mutex::new(&middle, "lock")
                .lock_timeout(secs(60))
                .unwrap_err()
        });
        keys_become(&client, "lock/", 2);
        let next = scope.spawn(|| Mutex::new(&last, "lock").lock_timeout(secs(60)).unwrap());
        keys_become(&client, "lock/", 3);
        middle.close().unwrap();
        assert_eq!(gone.join().unwrap().kind(), ErrorKind::Closed);
        keys_become(&client, "lock/", 2);
        // It was or will be woken; in both cases it must not get the lock.
        assert!(client.get(guard.key().clone()).unwrap().is_some());
        assert!(!next.is_finished());
        let token = guard.fencing_token();
        guard.unlock().unwrap();
        assert!(next.join().unwrap().fencing_token() > token);
    });
}

// Case: S-06
#[test]
fn a_wait_for_a_lock_fails_when_its_session_expires() {
    let (_etcd, client) = start();
    let holder = session(&client);
    let waiter = Session::builder(&client).ttl(secs(6)).start().unwrap();
    let _guard = Mutex::new(&holder, "lock").lock().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            Mutex::new(&waiter, "lock")
                .lock_timeout(secs(60))
                .unwrap_err()
        });
        keys_become(&client, "lock/", 2);
        let revoked = Instant::now();
        // The next renewal, within a third of the TTL, shows the loss.
        client.revoke(waiter.lease()).unwrap();
        let error = waiting.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::LeaseNotFound);
        assert!(error.to_string().starts_with("lock \"lock\": "), "{error}");
        assert!(revoked.elapsed() < secs(20));
        assert_eq!(
            waiter.lost().recv_timeout(SOON).unwrap().kind(),
            ErrorKind::LeaseNotFound
        );
    });
}

// Case: S-07
#[test]
fn unlocking_a_lost_lock_is_an_error() {
    let (_etcd, client) = start();
    let session = session(&client);
    let mutex = Mutex::new(&session, "lock");
    // A guard cannot be unlocked twice, and exists only after a lock: the remaining case is a lock that
    // was lost.
    let guard = mutex.lock().unwrap();
    client.delete(guard.key().clone()).unwrap();
    assert_eq!(guard.verify().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(guard.unlock().unwrap_err().kind(), ErrorKind::NotFound);
    let guard = mutex.lock().unwrap();
    assert!(guard.verify().is_ok());
    guard.unlock().unwrap();
}

#[test]
fn unlocking_never_deletes_the_key_of_a_successor() {
    let (_etcd, client) = start();
    let session = session(&client);
    let guard = Mutex::new(&session, "lock").lock().unwrap();
    client.delete(guard.key().clone()).unwrap();
    client.put(guard.key().clone(), "a successor").unwrap();
    let key = guard.key().clone();
    drop(guard);
    assert!(client.get(key).unwrap().is_some());
}

#[test]
fn a_waiter_that_times_out_leaves_no_key() {
    let (_etcd, client) = start();
    let (holder, waiter) = (session(&client), session(&client));
    let guard = Mutex::new(&holder, "lock").lock().unwrap();
    let begun = Instant::now();
    let error = Mutex::new(&waiter, "lock")
        .lock_timeout(Duration::from_millis(300))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(
        keys(&client, "lock/"),
        [String::from_utf8_lossy(guard.key())]
    );
}

#[test]
fn a_waiter_that_times_out_keeps_the_key_for_other_waiters_of_its_session() {
    let (_etcd, client) = start();
    let (holder, shared) = (session(&client), session(&client));
    let guard = Mutex::new(&holder, "lock").lock().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Mutex::new(&shared, "lock").lock_timeout(secs(60)));
        keys_become(&client, "lock/", 2);
        let mutex = Mutex::new(&shared, "lock");
        let error = mutex.lock_timeout(Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(mutex.try_lock().unwrap().is_none());
        assert_eq!(keys(&client, "lock/").len(), 2);
        guard.unlock().unwrap();
        assert!(waiting.join().unwrap().unwrap().verify().is_ok());
    });
    assert!(keys(&client, "lock/").is_empty());
}

#[test]
fn a_key_of_the_same_name_on_another_lease_is_a_conflict_and_is_kept() {
    let (_etcd, client) = start();
    let session = session(&client);
    let key = format!("lock/{:x}", session.lease().get());
    client.put(key.clone(), "").unwrap();
    for error in [
        Mutex::new(&session, "lock").lock().unwrap_err(),
        Mutex::new(&session, "lock").try_lock().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    assert!(client.get(key).unwrap().is_some());
}

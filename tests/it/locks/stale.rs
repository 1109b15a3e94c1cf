//! Guards of lost locks: they report the loss and do not affect the next holder.

use std::thread;
use std::time::Instant;

use etcd_blocking::concurrency::{Election, LockGuard, Mutex, RwLock};

use super::*;
use crate::support::proxy::{Dir, Proxy};

/// Deletes the key of a holder; another session then holds the lock for a while.
fn lose(client: &Client, guard: &LockGuard, name: &str) {
    client.delete(guard.key().clone()).unwrap();
    let other = session(client);
    Mutex::new(&other, name).lock().unwrap().unlock().unwrap();
}

// Fault: W5
#[test]
fn the_guard_of_a_lost_lock_does_not_unlock_a_later_lock_of_the_session() {
    let (_etcd, client) = start();
    let (mine, other) = (session(&client), session(&client));
    let mutex = Mutex::new(&mine, "lock");
    let first = mutex.lock().unwrap();
    lose(&client, &first, "lock");
    let second = mutex.lock().unwrap();
    assert!(second.fencing_token() > first.fencing_token());
    assert_eq!(first.unlock().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(second.verify().is_ok());
    assert!(Mutex::new(&other, "lock").try_lock().unwrap().is_none());
    second.unlock().unwrap();
    assert!(Mutex::new(&other, "lock").try_lock().unwrap().is_some());
}

// Fault: W5
#[test]
fn the_guard_of_a_lost_lock_does_not_hold_a_later_lock_of_the_session() {
    let (_etcd, client) = start();
    let (mine, other) = (session(&client), session(&client));
    let mutex = Mutex::new(&mine, "lock");
    let first = mutex.lock().unwrap();
    lose(&client, &first, "lock");
    mutex.lock().unwrap().unlock().unwrap();
    let theirs = Mutex::new(&other, "lock").try_lock().unwrap();
    assert!(theirs.is_some(), "the last holder has unlocked");
    drop(first);
    assert!(theirs.unwrap().verify().is_ok());
}

#[test]
fn unlocking_one_of_several_guards_reports_whether_the_lock_was_held() {
    let (_etcd, client) = start();
    let mine = session(&client);
    let mutex = Mutex::new(&mine, "lock");
    let guards = [(); 4].map(|()| mutex.lock().unwrap());
    let [first, second, third, fourth] = guards;
    first.unlock().unwrap();
    client.delete(second.key().clone()).unwrap();
    for lost in [second, third, fourth] {
        assert_eq!(lost.unlock().unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(mutex.try_lock().unwrap().is_some());
}

#[test]
fn a_lost_leadership_neither_resigns_nor_proclaims_for_a_later_one() {
    let (_etcd, client) = start();
    let mine = session(&client);
    let election = Election::new(&mine, "vote");
    let first = election.campaign("a").unwrap();
    client.delete(first.key().clone()).unwrap();
    let second = election.campaign("b").unwrap();
    assert_eq!(
        first.proclaim("a, again").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(first.resign().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(second.verify().is_ok());
    assert_eq!(election.leader().unwrap().unwrap().value(), "b");
    second.resign().unwrap();
    assert!(election.leader().unwrap().is_none());
}

#[test]
fn unlocking_a_lost_read_write_lock_is_an_error() {
    let (_etcd, client) = start();
    let mine = session(&client);
    let lock = RwLock::new(&mine, "rw");
    let lost = lock.write().unwrap();
    client.delete(lost.key().clone()).unwrap();
    let held = lock.write().unwrap();
    assert_eq!(lost.unlock().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(held.verify().is_ok());
    held.unlock().unwrap();
}

#[test]
fn a_lock_during_an_unlock_of_the_session_continues_right_after_it() {
    const LONG: Duration = Duration::from_secs(45);
    let (etcd, _direct) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()])
        .unwrap()
        .with_timeout(LONG);
    let session = Session::builder(&client).ttl(secs(300)).start().unwrap();
    let mutex = Mutex::new(&session, "lock");
    let guard = mutex.lock().unwrap();
    proxy.hold(Dir::Down, true);
    thread::scope(|scope| {
        let unlocking = scope.spawn(|| guard.unlock());
        // A caller before the unlock begins would share the lock, which tests nothing.
        thread::sleep(Duration::from_millis(300));
        let locking = scope.spawn(|| mutex.lock_timeout(LONG));
        thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        proxy.hold(Dir::Down, false);
        unlocking.join().unwrap().unwrap();
        assert!(locking.join().unwrap().unwrap().verify().is_ok());
        assert!(begun.elapsed() < LONG / 2, "it was not woken");
    });
}

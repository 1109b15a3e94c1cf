//! Locks during faults of connections, members and stores.

use std::thread;
use std::time::Instant;

use etcd_blocking::concurrency::Mutex;
use etcd_blocking::local::LocalCluster;
use etcd_blocking::{Revision, Txn};

use super::*;
use crate::support::child::within;
use crate::support::proxy::{Dir, Proxy};

/// A server behind a proxy, a client of the proxy, and a direct client.
fn behind_a_proxy() -> (LocalEtcd, Proxy, Client, Client) {
    let (etcd, direct) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    (etcd, proxy, client, direct)
}

#[test]
fn a_lock_whose_first_answer_is_lost_is_acquired_once() {
    let (_etcd, proxy, client, direct) = behind_a_proxy();
    let session = session(&client);
    let guard = thread::scope(|scope| {
        proxy.hold(Dir::Down, true);
        let locking = scope.spawn(|| Mutex::new(&session, "lock").lock_timeout(secs(60)));
        keys_become(&direct, "lock/", 1);
        proxy.drop_connections();
        proxy.hold(Dir::Down, false);
        locking.join().unwrap().unwrap()
    });
    let found = direct.get(guard.key().clone()).unwrap().unwrap();
    assert_eq!(
        (found.create_revision(), found.version()),
        (guard.fencing_token(), 1)
    );
    guard.unlock().unwrap();
    assert!(keys(&direct, "lock/").is_empty());
}

#[test]
fn a_lock_without_any_answer_fails_and_its_key_is_deleted_later() {
    let (_etcd, proxy, client, direct) = behind_a_proxy();
    let client = client.with_timeout(secs(1));
    let session = session(&client);
    proxy.hold(Dir::Down, true);
    let error = thread::scope(|scope| {
        let locking = scope.spawn(|| Mutex::new(&session, "lock").lock_timeout(secs(2)));
        keys_become(&direct, "lock/", 1);
        proxy.hold(Dir::Up, true);
        locking.join().unwrap().unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // The session continues, and the key remains.
    assert_eq!(keys(&direct, "lock/").len(), 1);
    proxy.drop_connections();
    proxy.hold(Dir::Down, false);
    proxy.hold(Dir::Up, false);
    keys_become(&direct, "lock/", 0);
    assert!(session.check().is_ok());
    assert!(Mutex::new(&session, "lock").try_lock().unwrap().is_some());
}

#[test]
fn a_guard_dropped_during_an_outage_is_unlocked_after_it() {
    let (etcd, client) = start();
    let (mine, other) = (session(&client), session(&client));
    let guard = Mutex::new(&mine, "lock").lock().unwrap();
    etcd.pause().unwrap();
    let begun = Instant::now();
    drop(guard);
    assert!(begun.elapsed() < secs(4), "a drop is bounded");
    etcd.resume().unwrap();
    assert!(Mutex::new(&other, "lock").lock_timeout(secs(60)).is_ok());
    assert!(mine.check().is_ok());
    assert!(Mutex::new(&mine, "lock").lock_timeout(secs(60)).is_ok());
}

#[test]
fn a_waiter_continues_through_lost_connections_compaction_and_a_restart() {
    let (mut etcd, proxy, client, direct) = behind_a_proxy();
    let (holder, waiter) = (session(&direct), session(&client));
    let guard = Mutex::new(&holder, "lock").lock().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Mutex::new(&waiter, "lock").lock_timeout(secs(120)));
        keys_become(&direct, "lock/", 2);
        proxy.drop_connections();
        let revision = direct.put("other", "").unwrap().revision();
        direct.compact(revision).unwrap();
        proxy.drop_connections();
        etcd.restart().unwrap();
        proxy.set_upstream(etcd.client_addr());
        assert!(!waiting.is_finished());
        let token = guard.fencing_token();
        guard.unlock().unwrap();
        let theirs = waiting.join().unwrap().unwrap();
        assert!(theirs.fencing_token() > token && theirs.verify().is_ok());
    });
}

#[test]
fn a_waiter_that_missed_the_release_reads_the_queue_after_a_compaction() {
    let (_etcd, proxy, client, direct) = behind_a_proxy();
    let (holder, waiter) = (session(&direct), session(&client));
    let guard = Mutex::new(&holder, "lock").lock().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Mutex::new(&waiter, "lock").lock_timeout(secs(120)));
        keys_become(&direct, "lock/", 2);
        proxy.cut();
        guard.unlock().unwrap();
        let revision = direct.put("other", "").unwrap().revision();
        direct.compact(revision).unwrap();
        proxy.restore();
        assert!(waiting.join().unwrap().unwrap().verify().is_ok());
    });
}

#[test]
fn closing_the_client_ends_the_wait_for_a_lock_at_once() {
    let (etcd, direct) = start();
    let holder = session(&direct);
    let guard = Mutex::new(&holder, "lock").lock().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let waiter = session(&client);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            Mutex::new(&waiter, "lock")
                .lock_timeout(secs(60))
                .unwrap_err()
        });
        keys_become(&direct, "lock/", 2);
        client.clone().close().unwrap();
        assert_eq!(waiting.join().unwrap().kind(), ErrorKind::Closed);
    });
    assert!(guard.verify().is_ok());
}

#[test]
fn the_wait_for_a_lock_ends_when_the_session_expires_in_an_outage() {
    let (_etcd, proxy, client, direct) = behind_a_proxy();
    let holder = session(&direct);
    let waiter = Session::builder(&client).ttl(secs(3)).start().unwrap();
    let _guard = Mutex::new(&holder, "lock").lock().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            Mutex::new(&waiter, "lock")
                .lock_timeout(secs(60))
                .unwrap_err()
        });
        keys_become(&direct, "lock/", 2);
        proxy.cut();
        let error = waiting.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::LeaseExpired, "{error}");
    });
    keys_become(&direct, "lock/", 1);
}

#[test]
fn a_lock_is_passed_on_while_leaders_are_killed() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let endpoints = cluster.endpoints();
    let client = Client::connect(&endpoints).unwrap();
    let (a, b) = (session(&client), session(&client));
    let mut last = Revision::NONE;
    let mut guard = Some(Mutex::new(&a, "lock").lock_timeout(secs(60)).unwrap());
    for _ in 0..2 {
        for (from, to) in [(&a, &b), (&b, &a)] {
            thread::scope(|scope| {
                let waiting = scope.spawn(move || Mutex::new(to, "lock").lock_timeout(secs(120)));
                keys_become(&client, "lock/", 2);
                let leader = cluster.leader().unwrap();
                cluster.member_mut(leader).kill().unwrap();
                let held = guard.take().unwrap();
                assert!(held.fencing_token() > last && from.check().is_ok());
                last = held.fencing_token();
                drop(held);
                guard = Some(waiting.join().unwrap().unwrap());
                cluster.member_mut(leader).restart().unwrap();
            });
        }
    }
}

#[test]
fn a_mutex_never_has_two_holders_while_connections_are_cut() {
    let (etcd, client) = start();
    client.put("counter", "0").unwrap();
    let (lockers, rounds) = (5u64, 8u64);
    within(secs(180), move || {
        let proxies: Vec<_> = (0..lockers)
            .map(|_| Proxy::start(etcd.client_addr()).unwrap())
            .collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            let _raise = crate::support::wait::Raise(&done);
            let workers: Vec<_> = proxies
                .iter()
                .map(|proxy| {
                    scope.spawn(move || {
                        let client = Client::connect([proxy.endpoint()]).unwrap();
                        let client = client.with_timeout(secs(3));
                        let session = session(&client);
                        let mutex = Mutex::new(&session, "lock");
                        for _ in 0..rounds {
                            let guard = mutex.lock_timeout(secs(150)).unwrap();
                            // Two holders at once would read the same value.
                            let Ok(Some(seen)) = client.get("counter") else {
                                continue;
                            };
                            let n: u64 = seen.value_str().unwrap().parse().unwrap();
                            let won = format!("won/{}", guard.fencing_token());
                            let puts =
                                [Put::new("counter", (n + 1).to_string()), Put::new(won, "")];
                            if let Ok(written) =
                                client.txn(Txn::when([guard.is_owner()]).then(puts))
                            {
                                assert!(written.succeeded(), "the session lives");
                            }
                        }
                    })
                })
                .collect();
            let chaos = scope.spawn(|| {
                let mut n = 0;
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    n += 1;
                    proxies[n % proxies.len()].drop_connections();
                    thread::sleep(Duration::from_millis(60));
                }
            });
            for worker in workers {
                worker.join().unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            chaos.join().unwrap();
            let counter = client.get("counter").unwrap().unwrap();
            let won = keys(&client, "won/").len();
            assert_eq!(counter.value(), won.to_string().as_str(), "a lost update");
            assert!(won > 0);
        });
    });
}

//! The lock and election services of the server.

use std::thread;
use std::time::Instant;

use etcd_blocking::Txn;
use etcd_blocking::concurrency::{Election, Mutex};
use etcd_blocking::lock_service::{Campaign, Lock};

use super::*;
use crate::support::pace::Pace;
use crate::support::proxy::{Dir, Proxy};

// Case: R-01
#[test]
fn the_servers_lock_is_acquired_after_its_holder_unlocks() {
    let (_etcd, client) = start();
    let (a, b) = (session(&client), session(&client));
    let first = client.lock_service().lock("lock", &a).unwrap();
    // The client's timeout does not apply to the wait.
    let impatient = client.with_timeout(Duration::from_millis(200));
    let pace = Pace::start();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            impatient
                .lock_service()
                .lock("lock", &b)
                .map(|got| (got, Instant::now()))
        });
        keys_become(&client, "lock/", 2);
        let blocked = Instant::now();
        thread::sleep(Duration::from_millis(300));
        assert!(!waiting.is_finished(), "after {:?}", blocked.elapsed());
        let given = Instant::now();
        client.lock_service().unlock(first.key().clone()).unwrap();
        let (second, at) = waiting.join().unwrap().unwrap();
        pace.check_span("the lock's way to the next", given, at, secs(2));
        assert!(second.fencing_token() > first.fencing_token());
        assert!(second.header().revision > first.header().revision);
        let fenced = |owner| Txn::when([owner]).then([Put::new("k", "v")]);
        assert!(!client.txn(fenced(first.is_owner())).unwrap().succeeded());
        assert!(client.txn(fenced(second.is_owner())).unwrap().succeeded());
    });
}

#[test]
fn the_servers_lock_and_the_mutex_exclude_each_other() {
    let (_etcd, client) = start();
    let (a, b) = (session(&client), session(&client));
    let locked = client.lock_service().lock("lock", &a).unwrap();
    let mutex = Mutex::new(&b, "lock");
    assert!(mutex.try_lock().unwrap().is_none());
    client.lock_service().unlock(locked.key().clone()).unwrap();
    let guard = mutex.try_lock().unwrap().unwrap();
    let short = Lock::new("lock", &a).within(Duration::from_millis(300));
    assert_eq!(client.call(short).unwrap_err().kind(), ErrorKind::Timeout);
    keys_become(&client, "lock/", 1);
    assert!(guard.verify().is_ok());
}

#[test]
fn a_wait_for_the_servers_lock_ends_with_the_session() {
    let (_etcd, client) = start();
    let (holder, closed, revoked) = (session(&client), session(&client), {
        Session::builder(&client).ttl(secs(3)).start().unwrap()
    });
    let _locked = client.lock_service().lock("lock", &holder).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.lock_service().lock("lock", &closed).unwrap_err());
        keys_become(&client, "lock/", 2);
        closed.close().unwrap();
        let error = waiting.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(
            error
                .to_string()
                .starts_with("lock service: lock \"lock\": "),
            "{error}"
        );
        let waiting = scope.spawn(|| client.lock_service().lock("lock", &revoked).unwrap_err());
        keys_become(&client, "lock/", 2);
        client.revoke(revoked.lease()).unwrap();
        assert_eq!(waiting.join().unwrap().kind(), ErrorKind::LeaseNotFound);
    });
    let refused = client.lock_service().lock("lock", &closed).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    keys_become(&client, "lock/", 1);
}

#[test]
fn a_wait_for_the_servers_lock_survives_lost_connections() {
    let (etcd, direct) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let (holder, waiter) = (session(&direct), session(&client));
    let first = direct.lock_service().lock("lock", &holder).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.call(Lock::new("lock", &waiter).within(secs(60))));
        keys_become(&direct, "lock/", 2);
        for _ in 0..3 {
            proxy.drop_connections();
            let more = proxy.connections() + 1;
            eventually(SOON, "it is there again", || {
                (proxy.connections() >= more || proxy.open_connections() > 0).then_some(())
            });
        }
        direct.lock_service().unlock(first.key().clone()).unwrap();
        let second = waiting.join().unwrap().unwrap();
        let found = direct.get(second.key().clone()).unwrap().unwrap();
        assert_eq!(found.create_revision(), second.fencing_token());
        assert_eq!(found.lease(), Some(waiter.lease()));
    });
}

// Fault: Q1
#[test]
fn unlock_of_the_servers_lock_is_not_repeated_when_its_answer_is_lost() {
    let (etcd, direct) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let shared = session(&direct);
    let first = client.lock_service().lock("lock", &shared).unwrap();
    proxy.hold(Dir::Down, true);
    thread::scope(|scope| {
        let unlocking = scope.spawn(|| client.lock_service().unlock(first.key().clone()));
        keys_become(&direct, "lock/", 0);
        // Another user of the same lease, and so of the same key.
        let second = direct.lock_service().lock("lock", &shared).unwrap();
        assert_eq!(second.key(), first.key());
        proxy.drop_connections();
        proxy.hold(Dir::Down, false);
        let error = unlocking.join().unwrap().unwrap_err();
        assert!(error.outcome_unknown(), "{error}");
        let there = direct.get(second.key().clone()).unwrap().unwrap();
        assert_eq!(there.create_revision(), second.fencing_token());
    });
}

// Case: R-01
#[test]
fn the_servers_elections_are_won_proclaimed_observed_and_resigned() {
    let (_etcd, client) = start();
    let (a, b) = (session(&client), session(&client));
    assert_eq!(
        client.lock_service().leader("vote").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let leaders = client.lock_service().observe("vote").unwrap();
    let next = || leaders.recv_timeout(SOON).unwrap().unwrap();
    let first = client.lock_service().campaign("vote", "a", &a).unwrap();
    assert_eq!(next().kv().value(), "a");
    client
        .lock_service()
        .proclaim(first.leader(), "a, again")
        .unwrap();
    let leader = next();
    assert_eq!(
        (leader.kv().value_str(), leader.kv().version()),
        (Some("a, again"), 2)
    );
    assert_eq!(
        client.lock_service().leader("vote").unwrap().kv(),
        leader.kv()
    );
    assert_eq!(
        Election::new(&a, "vote").leader().unwrap().as_ref(),
        Some(leader.kv())
    );
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.call(Campaign::new("vote", "b", &b).within(secs(60))));
        keys_become(&client, "vote/", 2);
        assert!(!waiting.is_finished());
        client.lock_service().resign(first.leader()).unwrap();
        let second = waiting.join().unwrap().unwrap();
        assert!(second.leader().fencing_token() > first.leader().fencing_token());
        assert_eq!(second.leader().lease(), b.lease());
        assert_eq!(next().kv().value(), "b");
        let late = client
            .lock_service()
            .proclaim(first.leader(), "a")
            .unwrap_err();
        assert_eq!(late.kind(), ErrorKind::NotFound, "{late}");
        assert!(
            client.lock_service().resign(first.leader()).is_ok(),
            "and takes nothing away"
        );
        assert_eq!(
            client.lock_service().leader("vote").unwrap().kv().value(),
            "b"
        );
    });
    client.close().unwrap();
    assert_eq!(
        leaders.recv_timeout(SOON).unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
}

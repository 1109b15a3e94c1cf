//! Locks, elections, queues and copies in a namespace: the same keys as outside under the full name.

use std::thread;

use etcd_blocking::concurrency::{
    Barrier, DoubleBarrier, Election, Mutex, PriorityQueue, Queue, RwLock, Session, Stm,
};
use etcd_blocking::lease::KeepsAlive;
use etcd_blocking::lock_service::{Campaign, Leader, Lock, LockResponse, Proclaim, Resign};
use etcd_blocking::{Error, Result};

use super::*;
use crate::support::server::skip_unless_since;

fn session(client: &Client) -> Session {
    let ttl = Duration::from_secs(60);
    Session::builder(client).ttl(ttl).start().unwrap()
}

fn briefly(client: &Client, name: &'static str, alive: &impl KeepsAlive) -> Result<LockResponse> {
    client.call(Lock::new(name, alive).within(Duration::from_millis(300)))
}

#[test]
fn a_lock_in_a_namespace_is_the_lock_with_the_prefixed_name() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    let (inside, outside) = (session(&app), session(&client));
    let (lock, full) = (
        Mutex::new(&inside, "lock"),
        Mutex::new(&outside, "app/lock"),
    );

    let guard = lock.lock().unwrap();
    assert!(guard.key().starts_with(b"lock/"), "{:?}", guard.key());
    assert!(guard.verify().is_ok());
    assert!(full.try_lock().unwrap().is_none());
    assert!(briefly(&client, "app/lock", &outside).is_err());
    guard.unlock().unwrap();

    let guard = full.lock().unwrap();
    assert!(lock.try_lock().unwrap().is_none());
    assert_eq!(
        briefly(&app, "lock", &inside).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    guard.unlock().unwrap();

    let locked = briefly(&app, "lock", &inside).unwrap();
    assert!(locked.key().starts_with(b"lock/"), "{:?}", locked.key());
    assert!(full.try_lock().unwrap().is_none());
    let fenced = Txn::when([locked.is_owner()]).then([Put::new("fenced", "v")]);
    assert!(app.txn(fenced).unwrap().succeeded());
    app.lock_service().unlock(locked.key().clone()).unwrap();
    let guard = full.try_lock().unwrap().expect("given back");

    // A waiter inside gets the lock after its release outside.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| lock.lock_timeout(SOON));
        eventually(SOON, "two want it", || {
            (keys(&client, Get::prefix("app/lock/")).len() == 2).then_some(())
        });
        guard.unlock().unwrap();
        waiting.join().unwrap().unwrap().unlock().unwrap();
    });
    let rw = RwLock::new(&inside, "rw");
    let reading = rw.read().unwrap();
    assert!(
        RwLock::new(&outside, "app/rw")
            .try_write()
            .unwrap()
            .is_none()
    );
    reading.unlock().unwrap();
    assert!(
        keys(&client, Get::prefix("lock")).is_empty(),
        "nothing got out"
    );
}

#[test]
fn an_election_in_a_namespace_is_the_election_with_the_prefixed_name() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    let (inside, outside) = (session(&app), session(&client));
    let full = Election::new(&outside, "app/vote");
    let observer = Election::new(&inside, "vote").observe().unwrap();
    let seen = |value: &str| {
        loop {
            let leader = observer.recv_timeout(SOON).unwrap().unwrap();
            if let Some(kv) = leader.filter(|kv| kv.value() == value) {
                assert!(kv.key().starts_with(b"vote/"), "{kv:?}");
                break;
            }
        }
    };
    let leading = Election::new(&inside, "vote").campaign("a").unwrap();
    seen("a");
    let leader = full.leader().unwrap().unwrap();
    assert_eq!(
        (leader.value_str(), leader.lease()),
        (Some("a"), Some(inside.lease()))
    );
    assert!(leader.key().starts_with(b"app/vote/"));
    leading.proclaim("a, again").unwrap();
    seen("a, again");
    leading.resign().unwrap();
    let leading = full.campaign("b").unwrap();
    seen("b");
    leading.resign().unwrap();
}

#[test]
fn the_servers_elections_are_won_observed_and_resigned_in_a_namespace() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    let alive = session(&client);
    let leaders = app.lock_service().observe("vote").unwrap();
    let next = || leaders.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(
        app.lock_service().leader("vote").unwrap_err().kind(),
        ErrorKind::NotFound
    );

    let won = app
        .call(Campaign::new("vote", "a", &alive).within(SOON))
        .unwrap();
    let key = won.leader().key().clone();
    assert_eq!(won.leader().name(), "vote");
    assert!(key.starts_with(b"vote/"), "{key:?}");
    assert_eq!(
        (
            next().kv().key(),
            app.lock_service().leader("vote").unwrap().kv().key()
        ),
        (&key, &key)
    );
    let outside = client.call(Leader::of("app/vote")).unwrap();
    assert_eq!(outside.kv().key(), &[b"app/", &key[..]].concat());

    app.call(Proclaim::new(won.leader(), "a, again")).unwrap();
    assert_eq!(next().kv().value(), "a, again");
    let only_leader = Txn::when([won.leader().is_leader()]).then([Put::new("k", "v")]);
    assert!(app.txn(only_leader).unwrap().succeeded());
    app.call(Resign::new(won.leader())).unwrap();
    assert!(keys(&client, Get::prefix("app/vote/")).is_empty());
    let error = app
        .lock_service()
        .proclaim(won.leader(), "late")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("\"vote\"") && !text.contains("app/"),
        "{text}"
    );
}

#[test]
fn queues_barriers_and_stm_in_a_namespace_use_prefixed_names() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    let (queue, full) = (Queue::new(&app, "q"), Queue::new(&client, "app/q"));
    let key = queue.enqueue("first").unwrap();
    assert!(key.starts_with(b"q/"), "{key:?}");
    full.enqueue("second").unwrap();
    assert_eq!(full.dequeue().unwrap().value(), "first");
    assert_eq!(queue.dequeue().unwrap().value(), "second");
    let (urgent, full) = (
        PriorityQueue::new(&app, "p"),
        PriorityQueue::new(&client, "app/p"),
    );
    urgent.enqueue("later", 9).unwrap();
    full.enqueue("now", 1).unwrap();
    assert_eq!(urgent.dequeue().unwrap().value(), "now");

    let barrier = Barrier::new(&app, "gate");
    barrier.hold().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Barrier::new(&client, "app/gate").wait_timeout(SOON));
        barrier.release().unwrap();
        waiting.join().unwrap().unwrap();
    });
    let (inside, outside) = (session(&app), session(&client));
    let (a, b) = (
        DoubleBarrier::new(&inside, "both", 2),
        DoubleBarrier::new(&outside, "app/both", 2),
    );
    thread::scope(|scope| {
        let other = scope.spawn(|| b.enter_timeout(SOON)?.leave_timeout(SOON));
        a.enter_timeout(SOON).unwrap().leave_timeout(SOON).unwrap();
        other.join().unwrap().unwrap();
    });

    app.put("n", "1").unwrap();
    let committed = Stm::new(&app)
        .run(|tx| {
            let old = tx.get("n")?.expect("just put");
            tx.put("n", [&old[..], b"2"].concat());
            tx.delete("gone");
            Ok::<_, Error>(old)
        })
        .unwrap();
    assert_eq!(committed.value(), "1");
    assert_eq!(client.get("app/n").unwrap().unwrap().value(), "12");
    assert!(client.get("n").unwrap().is_none());
}

#[test]
fn a_cache_of_a_namespace_has_keys_without_the_prefix() {
    let (_etcd, client) = start();
    fill(&client);
    let app = client.namespace("app/").unwrap();
    let cache = etcd_blocking::mirror::Cache::open(&app, "b/").unwrap();
    assert_eq!(
        names(&cache.list(KeyRange::prefix("b/")).unwrap()),
        ["b/1", "b/2"]
    );
    cache.put("b/3", "new").unwrap();
    assert_eq!(client.get("app/b/3").unwrap().unwrap().value(), "new");
    assert_eq!(cache.get("b/3").unwrap().unwrap().key(), "b/3");
    let put = client.put("app/b/4", "from outside").unwrap();
    let seen = cache.get_at_least(put.revision(), "b/4").unwrap().unwrap();
    assert_eq!(
        (seen.key_lossy().as_ref(), seen.value_str()),
        ("b/4", Some("from outside"))
    );
    // Keys that are not in memory are read through the same view.
    assert_eq!(cache.get("a").unwrap().unwrap().key(), "a");
    assert_eq!(cache.get_linearizable("b/1").unwrap().unwrap().key(), "b/1");
}

#[test]
fn in_a_namespace_permissions_are_prefixed_and_users_and_roles_are_not() {
    if skip_unless_since(3, 5, "there is no AuthStatus") {
        return;
    }
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    assert!(!app.auth().status().unwrap().is_enabled());
    app.auth().role_add("reader").unwrap();
    app.auth().user_add("api", "secret").unwrap();
    app.auth().user_grant_role("api", "reader").unwrap();
    app.auth().user_change_password("api", "other").unwrap();
    assert_eq!(app.auth().user_get("api").unwrap().roles(), ["reader"]);
    assert_eq!(app.auth().user_list().unwrap().users(), ["api"]);
    assert_eq!(app.auth().role_list().unwrap().roles(), ["reader"]);
    let permission = etcd_blocking::auth::Permission::read_write(KeyRange::prefix("x/"));
    for error in [
        app.auth()
            .role_grant_permission("reader", permission)
            .unwrap_err(),
        app.auth()
            .role_revoke_permission("reader", "x")
            .unwrap_err(),
        app.auth().role_get("reader").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(
            error.to_string().contains("permissions apply to full keys"),
            "{error}"
        );
    }
    assert!(
        client
            .auth()
            .role_get("reader")
            .unwrap()
            .permissions()
            .is_empty()
    );
    app.auth().user_revoke_role("api", "reader").unwrap();
    app.auth().user_delete("api").unwrap();
    app.auth().role_delete("reader").unwrap();
}

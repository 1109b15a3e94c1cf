//! Watches with responses that are large, or larger than the client's limit.

use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::concurrency::{Mutex, Session};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Get, KeyRange, Put, Revision, Txn, Watch, Watcher};

use super::{SOON, connect, events, next};
use crate::support::proxy::Proxy;
use crate::support::wait::eventually;

/// A client that takes messages of 1 MiB, less than one event of `large`.
fn small(etcd: &LocalEtcd) -> Client {
    Client::builder([etcd.endpoint()])
        .receive_limit(1 << 20)
        .connect()
        .unwrap()
}

fn large(client: &Client, key: &str) -> Revision {
    client.put(key, vec![b'x'; 1_400_000]).unwrap().revision()
}

/// Writes `count` revisions of 100 keys with values of `size` bytes; returns the first one.
fn history(client: &Client, count: usize, size: usize) -> Revision {
    let value = vec![b'v'; size];
    // The transactions of a batch wait for each other.
    let client = client.with_timeout(SOON);
    let mut pending = Vec::new();
    for n in 0..count {
        let puts = (0..100).map(|key| Put::new(format!("h/{key:03}"), value.clone()));
        pending.push(client.submit(Txn::always(puts)));
        if n % 64 == 63 || n == count - 1 {
            for txn in pending.drain(..) {
                txn.wait().unwrap();
            }
        }
    }
    let now = client.call(Get::key("h/000")).unwrap();
    Revision::new(now.header().revision.get() - count as i64 + 1)
}

fn drain(watcher: &Watcher, count: usize) -> Duration {
    let begun = Instant::now();
    let (mut seen, mut last) = (0, Revision::NONE);
    while seen < count {
        let response = next(watcher);
        let first = response
            .events()
            .first()
            .map(etcd_blocking::Event::revision);
        assert!(first > Some(last), "whole revisions, in order");
        last = response.revision();
        seen += response.events().len();
    }
    assert_eq!(seen, count);
    begun.elapsed()
}

// Fault: W1
#[test]
fn a_backlog_of_many_small_events_is_delivered_within_seconds() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let first = history(&client, 1000, 10);
    let watcher = client
        .watch(Watch::prefix("h/").start_revision(first))
        .unwrap();
    eprintln!("100,000 events in {:?}", drain(&watcher, 100_000));
}

// Fault: W2, F27
#[test]
fn an_event_over_the_limit_ends_only_its_own_watch() {
    let etcd = LocalEtcd::start().unwrap();
    let (client, other) = (small(&etcd), connect(&etcd));
    let concerned = client.watch("large").unwrap();
    let watcher = client.watch("k").unwrap();
    let mirror = client.mirror(KeyRange::key("m")).unwrap();
    let held = Session::builder(&other).start().unwrap();
    let guard = Mutex::new(&held, "lock").lock().unwrap();
    let waiting = thread::spawn({
        let client = client.clone();
        move || {
            let session = Session::builder(&client).start().unwrap();
            let guard = Mutex::new(&session, "lock").lock_timeout(SOON);
            guard.map(|guard| guard.unlock().is_ok())
        }
    });
    eventually(SOON, "the waiter is in the queue", || {
        (other
            .call(Get::prefix("lock").count_only())
            .unwrap()
            .count()
            == 2)
            .then_some(())
    });
    let opened = client.metrics().watches.streams;
    large(&other, "large");
    let error = concerned.recv_timeout(SOON).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let text = error.to_string();
    for part in ["watch \"large\"", "1048576", "receive_limit", "1400"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    other.put("k", "v").unwrap();
    other.put("m", "v").unwrap();
    assert_eq!(events(&watcher, 1)[0].kv().value(), "v");
    let put = other.put("m", "w").unwrap();
    let snapshot = mirror.wait_revision(put.revision(), SOON).unwrap();
    assert_eq!(snapshot.get(b"m").unwrap().value(), "w");
    assert!(mirror.staleness().is_none());
    guard.unlock().unwrap();
    assert!(waiting.join().unwrap().unwrap());
    let more = client.metrics().watches.streams - opened;
    assert_eq!(more, 1, "the one that the watch had for itself");
}

// Fault: W2
#[test]
fn a_backlog_over_the_limit_is_delivered_in_parts_and_the_watch_continues() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::builder([etcd.endpoint()])
        .receive_limit(3 << 20)
        .connect()
        .unwrap();
    let first = history(&client, 30, 2000);
    let watchers: Vec<_> = (0..6)
        .map(|_| {
            let watch = Watch::prefix("h/").start_revision(first);
            client.watch(watch).unwrap()
        })
        .collect();
    let quiet = client.watch("k").unwrap();
    for watcher in &watchers {
        drain(watcher, 3000);
    }
    client.put("k", "v").unwrap();
    events(&quiet, 1);
    for round in 0..3 {
        client.put("h/new", format!("{round}")).unwrap();
        for watcher in &watchers {
            assert_eq!(
                events(watcher, 1)[0].kv().value_str().unwrap(),
                format!("{round}")
            );
        }
    }
}

/// A backlog over the limit is sent in fragments, on a stream of its own; the connection ends within them.
// Fault: F28
#[test]
fn fragments_that_are_cut_are_delivered_as_whole_revisions_once() {
    let etcd = LocalEtcd::start().unwrap();
    let first = history(&connect(&etcd), 30, 2000);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let limits = [500_000, 2_050_000, 4_000_000, 7_000_000, 9_000_000];
    for (earlier, limit) in limits.into_iter().enumerate() {
        proxy.limit_data(limit);
        let before = proxy.connections();
        let client = Client::builder([proxy.endpoint()])
            .receive_limit(3 << 20)
            .connect()
            .unwrap();
        let watch = Watch::prefix("h/").start_revision(first);
        let watcher = client.watch(watch).unwrap();
        eventually(SOON, "the connection ends", || {
            (proxy.connections() >= before + 2).then_some(())
        });
        proxy.limit_data(None);
        drain(&watcher, 3000 + earlier);
        connect(&etcd).put("h/new", limit.to_string()).unwrap();
        let last = events(&watcher, 1)[0].kv().clone();
        assert_eq!(last.value_str(), Some(&*limit.to_string()));
    }
}

// Fault: W8
#[test]
fn the_error_of_a_revision_over_the_limit_names_the_revision_and_the_setting() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::builder([etcd.endpoint()])
        .receive_limit(5 << 19)
        .connect()
        .unwrap();
    // Each of them is within the server's limit for a request; together they have 2.8 MB.
    for n in [1, 2] {
        let puts = (0..14).map(|key| Put::new(format!("r/{key}"), vec![b'0' + n; 100_000]));
        client.txn(Txn::always(puts)).unwrap();
    }
    let now = client.call(Get::key("r/0")).unwrap().header().revision;
    let watch = |watch: Watch| client.watch(watch.start_revision(now)).unwrap();
    let plain = watch(Watch::prefix("r/"));
    assert_eq!(events(&plain, 14).len(), 14);
    let with_prev = watch(Watch::prefix("r/").prev_kv());
    let error = with_prev.recv_timeout(SOON).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let text = error.to_string();
    for part in ["watch", "r/", "receive_limit", &format!("revision {now}")] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    drop(plain);
}

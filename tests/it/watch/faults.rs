//! Watches while connections break, servers are killed and data is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::{Client, ErrorKind, KeyRange, Revision, Watch};

use super::{SOON, connect, events, eventually_watches, last_error, next, watches};
use crate::support::pace::Pace;
use crate::support::peers::PeerLinks;
use crate::support::proxy::{Dir, Proxy};
use crate::support::server::{EARLY_PROGRESS, progress_interval, skip_before};
use crate::support::wait::eventually;

/// Writes `w/<n>` for n from 0 until `stop` is set; returns the number of writes.
fn writer(client: Client, stop: Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::SeqCst) {
            client
                .put(format!("w/{}", count % 10), count.to_string())
                .unwrap();
            count += 1;
        }
        count
    })
}

#[test]
fn lost_connections_cause_no_missing_and_no_duplicate_event() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let watchers: Vec<_> = (0..4)
        .map(|_| client.watch(KeyRange::prefix("w/")).unwrap())
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = writer(connect(&etcd), Arc::clone(&stop));
    let mut seen = vec![Vec::new(); watchers.len()];
    let mut read = |at_least: usize| {
        for (watcher, seen) in watchers.iter().zip(&mut seen) {
            let goal = seen.len() + at_least;
            while seen.len() < goal {
                for event in next(watcher).into_events() {
                    seen.push(event.kv().value_str().unwrap().parse::<usize>().unwrap());
                }
            }
        }
    };
    for _ in 0..12 {
        read(5);
        proxy.drop_connections();
    }
    stop.store(true, Ordering::SeqCst);
    let written = writing.join().unwrap();
    for (watcher, mut seen) in watchers.iter().zip(seen) {
        while seen.len() < written {
            for event in next(watcher).into_events() {
                seen.push(event.kv().value_str().unwrap().parse::<usize>().unwrap());
            }
        }
        assert!(
            seen.into_iter().eq(0..written),
            "every write once, in order"
        );
    }
}

#[test]
fn a_watch_continues_through_a_restart() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let watcher = client.watch("k").unwrap();
    client.put("k", "before").unwrap();
    assert_eq!(next(&watcher).events()[0].kv().value(), "before");
    etcd.restart().unwrap();
    // A read replaces the ended connection: a write on it would have an unknown outcome.
    client.get("k").unwrap();
    client.put("k", "after").unwrap();
    assert_eq!(next(&watcher).events()[0].kv().value(), "after");
    eventually_watches(&etcd, 1);
}

// Fault: F4
#[test]
fn lost_data_is_reported() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let watcher = client.watch("k").unwrap();
    for _ in 0..10 {
        client.put("k", "v").unwrap();
    }
    events(&watcher, 10);
    etcd.restart_wiped().unwrap();
    assert_eq!(last_error(&watcher), ErrorKind::Rewound);
    let again = client.watch("k").unwrap();
    client.put("k", "v").unwrap();
    assert_eq!(events(&again, 1).len(), 1);
}

// Fault: F16
#[test]
fn a_compaction_during_a_disconnect_is_reported() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let near = connect(&etcd);
    let watcher = client.watch("k").unwrap();
    near.put("k", "seen").unwrap();
    events(&watcher, 1);
    proxy.cut();
    for _ in 0..5 {
        near.put("k", "missed").unwrap();
    }
    let revision = near.put("k", "missed").unwrap().header().revision;
    near.compact(revision).unwrap();
    proxy.restore();
    assert_eq!(last_error(&watcher), ErrorKind::Compacted);
}

// Case: W-03
#[test]
fn a_watch_requested_while_connections_break_is_created() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                proxy.drop_connections();
                thread::sleep(Duration::from_millis(20));
            }
            stop.store(true, Ordering::SeqCst);
        });
        let watcher = client.with_timeout(SOON).watch("k").unwrap();
        connect(&etcd).put("k", "v").unwrap();
        assert_eq!(events(&watcher, 1)[0].kv().value(), "v");
    });
}

#[test]
fn a_watch_dropped_while_the_server_is_silent_is_cancelled_later() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let kept = client.watch("kept").unwrap();
    proxy.hold(Dir::Down, true);
    let error = client
        .with_timeout(Duration::from_millis(200))
        .watch("k")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    proxy.hold(Dir::Down, false);
    client.put("kept", "v").unwrap();
    events(&kept, 1);
    eventually_watches(&etcd, 1);
}

// Fault: F6
#[test]
fn a_member_without_a_leader_is_left_for_one_with() {
    let (cluster, links) = PeerLinks::start(3, &[]);
    let client = Client::connect(cluster.endpoints()).unwrap();
    let watcher = client.watch("k").unwrap();
    let serving = eventually(SOON, "a member has the watch", || {
        cluster.members().iter().position(|m| watches(m) == 1)
    });
    links.isolate(serving);
    let others = (0..3).filter(|n| *n != serving);
    let near = Client::connect(
        others
            .map(|n| cluster.members()[n].endpoint())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let revision = eventually(3 * SOON, "the others have a leader", || {
        near.put("k", "v").ok().map(|put| put.header().revision)
    });
    while next(&watcher).revision() < revision {}
    links.heal();
}

// Fault: F1
#[test]
fn a_watch_moves_from_a_dead_member_to_another() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let client = Client::connect(cluster.endpoints()).unwrap();
    let watcher = client.watch("k").unwrap();
    let serving = eventually(SOON, "a member has the watch", || {
        cluster.members().iter().position(|m| watches(m) == 1)
    });
    cluster.member_mut(serving).kill().unwrap();
    let revision = eventually(3 * SOON, "the others have a leader", || {
        client.put("k", "v").ok().map(|put| put.header().revision)
    });
    while next(&watcher).revision() < revision {}
}

// Case: W-26
#[test]
fn the_client_closes_while_two_thousand_watches_break_and_end() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let set = client.watch_set().unwrap();
    set.add_all((0..2000).map(|n| Watch::key(format!("k/{n}"))))
        .unwrap();
    let pace = Pace::start();
    let begun = Instant::now();
    proxy.drop_connections();
    drop(set);
    if let Err(error) = client.close() {
        // The runtime may take a second, and longer on an overloaded machine.
        let delay = pace.delay(begun, Instant::now());
        assert!(delay > Duration::from_millis(500), "{error}");
    }
    eventually_watches(&etcd, 0);
}

#[test]
fn progress_is_not_requested_repeatedly_while_the_queue_is_full() {
    let etcd = LocalEtcd::builder()
        .arg(progress_interval("100ms"))
        .start()
        .unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .watch_queue(2, 1 << 20)
        .connect()
        .unwrap();
    let direct = connect(&etcd);
    let watcher = client.watch(Watch::key("k").progress_notify()).unwrap();
    direct.put("other", "v").unwrap();
    eventually(SOON, "its queue is full", || {
        (watcher.receiver().len() == 2).then_some(())
    });
    // Several intervals, in each of which there is progress and no room in the queue.
    let before = proxy.bytes_up();
    thread::sleep(Duration::from_secs(1));
    let asked = proxy.bytes_up() - before;
    println!("{asked} bytes of requests in a second");
    assert!(asked < 2_000, "{asked} bytes of requests");
    // Progress is delivered once there is room.
    let last = direct.put("other", "v").unwrap().revision();
    eventually(SOON, "progress up to the newest revision", || {
        let response = watcher.recv_timeout(SOON).unwrap().unwrap();
        (response.is_progress() && response.revision() >= last).then_some(())
    });
}

#[test]
fn a_watch_that_ended_by_a_compaction_does_not_hold_back_the_progress_of_others() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    for n in 0..5 {
        client.put("k", n.to_string()).unwrap();
    }
    etcd.compact().unwrap();
    let old = Watch::key("k").start_revision(Revision::new(2));
    let old = client.watch(old).unwrap();
    assert_eq!(last_error(&old), ErrorKind::Compacted);
    // etcd answers a progress request only if it may for all watches of the stream.
    let other = client.put("other", "v").unwrap().revision();
    mirror.wait_revision(other, SOON).unwrap();
}

// Fault: N16
#[test]
fn a_watch_keeps_up_while_its_connection_is_cut_repeatedly() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let watcher = client.watch(KeyRange::prefix("w/")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = writer(connect(&etcd), Arc::clone(&stop));
    for _ in 0..12 {
        thread::sleep(Duration::from_millis(500));
        proxy.drop_connections();
    }
    stop.store(true, Ordering::SeqCst);
    let written = writing.join().unwrap();
    let behind = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < written {
        for event in next(&watcher).into_events() {
            seen.push(event.kv().value_str().unwrap().parse::<usize>().unwrap());
        }
    }
    println!("{written} writes; {:?} behind at the end", behind.elapsed());
    assert!(
        seen.into_iter().eq(0..written),
        "every write once, in order"
    );
}

//! Watch cases of etcd's own test suite that no other file here covers.

use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::{
    Client, ErrorKind, Event, EventKind, Get, KeyRange, Put, Revision, Watch, Watcher,
};

use super::{SOON, connect, events, eventually_watches, next};
use crate::support::pace::Pace;
use crate::support::peers::PeerLinks;
use crate::support::proxy::{Dir, Proxy};
use crate::support::server::{EARLY_PROGRESS, Version, progress_interval, skip_before};
use crate::support::wait::{eventually, items, leader};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn keys(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .map(|event| std::str::from_utf8(event.key()).unwrap())
        .collect()
}

// Case: W-02, W-29
#[test]
fn a_range_is_watched_up_to_its_end_and_from_a_key_without_end() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let range = client
        .watch(Watch::range(KeyRange::range("a", "c")))
        .unwrap();
    let from = client.watch(Watch::from_key("b")).unwrap();
    for key in ["a", "b", "bar", "c", "z"] {
        client.put(key, "v").unwrap();
    }
    assert_eq!(keys(&events(&range, 3)), ["a", "b", "bar"]);
    assert_eq!(keys(&events(&from, 4)), ["b", "bar", "c", "z"]);
    assert!(range.try_recv().is_err(), "and nothing else");
}

/// The remaining items of a dropped watch: events, and no error.
#[track_caller]
fn ends_without_an_error(watcher: Watcher) -> usize {
    let receiver = watcher.receiver().clone();
    let (pace, begun) = (Pace::start(), Instant::now());
    watcher.close();
    let count = items(&receiver, SOON).map(Result::unwrap).count();
    pace.check("the end", begun, Duration::from_secs(1));
    count
}

// Case: W-06, W-25
#[test]
fn a_dropped_watch_ends_at_once_without_an_error() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let direct = connect(&etcd);

    let running = client.watch("k").unwrap();
    direct.put("k", "v").unwrap();
    assert!(ends_without_an_error(running) <= 1);

    // A watch whose creation is not answered.
    let set = client.watch_set().unwrap();
    proxy.hold(Dir::Down, true);
    set.submit("k").unwrap();
    let receiver = set.receiver().clone();
    drop(set);
    assert!(receiver.recv_timeout(SOON).is_err() && receiver.is_empty());
    proxy.hold(Dir::Down, false);

    // The client closes right after it.
    for _ in 0..20 {
        let client = connect(&etcd);
        let (cancelled, set) = (client.watch("k").unwrap(), client.watch_set().unwrap());
        set.add("k").unwrap();
        let (receiver, of_set) = (cancelled.receiver().clone(), set.receiver().clone());
        drop((cancelled, set));
        client.close().unwrap();
        assert!(items(&receiver, SOON).all(|item| item.is_ok()));
        assert_eq!(items(&of_set, SOON).count(), 0);
    }
    eventually_watches(&etcd, 0);
}

// Case: W-07
// Fault: F10
#[test]
fn history_after_a_broken_connection_is_delivered_once_in_order() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let direct = connect(&etcd);
    for value in ["3", "4"] {
        direct.put("a", value).unwrap();
    }
    let set = client.watch_set().unwrap();
    let kept = client.watch("kept").unwrap();
    // In the first round the connection breaks before the first event; in the others, later.
    for before in [0, 1, 20, 60, 100, 140] {
        proxy.hold(Dir::Down, before == 0);
        let down = proxy.bytes_down();
        let key = set
            .submit(Watch::key("a").start_revision(Revision::new(1)))
            .unwrap();
        if before > 0 {
            eventually(SOON, "something of it came", || {
                (proxy.bytes_down() >= down + before).then_some(())
            });
        } else {
            eventually_watches(&etcd, 2);
        }
        proxy.drop_connections();
        proxy.hold(Dir::Down, false);
        let mut values = Vec::new();
        while values.len() < 2 {
            let (of, item) = set.receiver().recv_timeout(SOON).unwrap();
            assert_eq!(of, key);
            let events = item.unwrap().into_events();
            values.extend(
                events
                    .iter()
                    .map(|e| e.kv().value_str().unwrap().to_owned()),
            );
        }
        assert_eq!(values, ["3", "4"]);
        assert!(set.remove(key));
        eventually_watches(&etcd, 1);
    }
    direct.put("kept", "v").unwrap();
    assert_eq!(keys(&events(&kept, 1)), ["kept"]);
}

// Case: W-14
#[test]
fn a_progress_request_of_a_watch_without_events_is_answered() {
    let fixed = [Version(3, 4, 31), Version(3, 5, 13)];
    if skip_before(
        &fixed,
        "the server sends no progress to a watch that began in the past and had no events",
    ) {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let mut last = Revision::NONE;
    for _ in 0..20 {
        last = client.put("other", "v").unwrap().revision();
    }
    let watcher = client
        .watch(Watch::key("k").start_revision(Revision::new(2)))
        .unwrap();
    watcher.request_progress();
    let progress = next(&watcher);
    assert!(progress.is_progress() && progress.revision() == last);
}

// Case: W-15, L-18
#[test]
fn each_change_of_a_key_has_its_event_kind_and_expiry_is_a_deletion() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let watcher = client.watch("k").unwrap();
    client.put("k", "1").unwrap();
    client.put("k", "2").unwrap();
    client.delete("k").unwrap();
    let lease = client.grant(Duration::from_secs(1)).unwrap().id();
    client.call(Put::new("k", "3").lease(lease)).unwrap();
    let seen = events(&watcher, 5);
    let kinds: Vec<_> = seen
        .iter()
        .map(|event| (event.kind(), event.is_create(), event.is_modify()))
        .collect();
    let (put, delete) = (EventKind::Put, EventKind::Delete);
    assert_eq!(
        kinds,
        [
            (put, true, false),
            (put, false, true),
            (delete, false, false),
            (put, true, false),
            (delete, false, false),
        ]
    );
    assert!(client.get("k").unwrap().is_none());
}

// Case: W-10, W-11
#[test]
fn progress_notifications_reach_revisions_of_other_keys() {
    let etcd = LocalEtcd::builder()
        .arg(progress_interval("200ms"))
        .start()
        .unwrap();
    let client = connect(&etcd);
    let watcher = client.watch(Watch::key("k").progress_notify()).unwrap();
    let unrelated = client.put("unrelated", "v").unwrap().revision();
    let (pace, begun) = (Pace::start(), Instant::now());
    eventually(SOON, "progress up to the unrelated put", || {
        let progress = next(&watcher);
        assert!(progress.is_progress() && progress.events().is_empty());
        (progress.revision() == unrelated).then_some(())
    });
    pace.check("progress", begun, Duration::from_secs(1));
    let own = client.put("k", "v").unwrap().revision();
    eventually(SOON, "the event, after progress", || {
        let response = next(&watcher);
        (!response.is_progress()).then(|| assert_eq!(response.revision(), own))
    });
}

// Case: W-18, L-16
// Fault: F7
#[test]
fn without_a_majority_no_watch_is_created_and_existing_ones_wait() {
    let mut cluster = LocalCluster::start(3).unwrap();
    let alone = leader(&cluster);
    let client = Client::connect([cluster.member(alone).endpoint()]).unwrap();
    let watcher = client.watch("k").unwrap();
    let first = client.put("k", "before").unwrap().revision();
    assert_eq!(next(&watcher).revision(), first);
    let lease = client.grant(Duration::from_secs(3)).unwrap().id();
    let alive = client.keep_alive(lease).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    let others = [(alone + 1) % 3, (alone + 2) % 3];
    for other in others {
        cluster.member_mut(other).kill().unwrap();
    }
    // A lease without renewals is not reported as alive after its expiry.
    let last = items(alive.receiver(), SOON).last().unwrap();
    assert_eq!(last.unwrap_err().kind(), ErrorKind::LeaseExpired);
    let refused = client.with_timeout(ms(1500)).watch("k").unwrap_err();
    assert!(
        [ErrorKind::Timeout, ErrorKind::Unavailable].contains(&refused.kind()),
        "{refused}"
    );
    println!("{refused}");
    for other in others {
        cluster.member_mut(other).spawn().unwrap();
    }
    let later = eventually(2 * SOON, "a majority writes", || {
        client.put("k", "after").ok().map(|put| put.revision())
    });
    // The watch is the one from before, and also delivers the events of the outage.
    while next(&watcher).revision() < later {}
}

// Case: W-24
#[test]
fn watches_created_while_others_end_continue() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let direct = connect(&etcd);
    for drops in [false, true] {
        let clients: Vec<_> = (0..5)
            .map(|_| Client::connect([proxy.endpoint()]).unwrap())
            .collect();
        let revision = direct.put("k", "v").unwrap().revision();
        thread::scope(|scope| {
            for n in 0..100 {
                let (client, proxy) = (&clients[n % 5], &proxy);
                scope.spawn(move || {
                    // The last watch of a stream may end just when this one is created.
                    let watch = Watch::key("k").start_revision(revision);
                    let watcher = client.with_timeout(SOON).watch(watch).unwrap();
                    if drops && n % 10 == 0 {
                        proxy.drop_connections();
                    }
                    assert_eq!(next(&watcher).revision(), revision);
                });
            }
        });
    }
    eventually_watches(&etcd, 0);
}

// Case: W-33
// Fault: F3
#[test]
fn after_progress_a_restart_repeats_no_event() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let mut etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let watcher = client.watch("k").unwrap();
    let mut seen = Vec::new();
    for round in 0..3 {
        client.put("k", round.to_string()).unwrap();
        seen.extend(events(&watcher, 1).iter().map(Event::revision));
        let unrelated = client.put("other", "v").unwrap().revision();
        watcher.request_progress();
        assert_eq!(next(&watcher).revision(), unrelated);
        etcd.restart().unwrap();
        // A read replaces the ended connection: a write on it would have an unknown outcome.
        client.get("k").unwrap();
    }
    client.put("k", "last").unwrap();
    seen.extend(events(&watcher, 1).iter().map(Event::revision));
    assert!(
        seen.windows(2).all(|pair| pair[0] < pair[1]) && seen.len() == 4,
        "{seen:?}"
    );
    watcher.request_progress();
    assert!(next(&watcher).is_progress(), "and nothing else");
}

/// The number of snapshots that a member has received from a leader.
fn snapshots_received(member: &LocalEtcd) -> u64 {
    let text = super::metrics(member);
    text.lines()
        .filter(|line| line.starts_with("etcd_network_snapshot_receive_success{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum::<f64>() as u64
}

// Case: W-36
#[test]
fn a_watch_on_a_member_restored_from_a_snapshot_misses_no_event() {
    // A leader sends missing entries one by one while it has them: the last 5,000.
    let (cluster, links) = PeerLinks::start(3, &["--snapshot-count=10"]);
    let behind = (leader(&cluster) + 1) % 3;
    let client = Client::connect([cluster.member(behind).endpoint()]).unwrap();
    let others = (0..3).filter(|n| *n != behind);
    let near = Client::connect(
        others
            .map(|n| cluster.member(n).endpoint())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let first = near.put("w", "first").unwrap().revision();
    let watcher = client.watch(Watch::key("w").start_revision(first)).unwrap();
    links.isolate(behind);
    let patient = near.with_timeout(SOON);
    let puts: Vec<_> = (0..6000)
        .map(|n| patient.submit(Put::new(if n % 2 == 0 { "w" } else { "x" }, n.to_string())))
        .collect();
    for put in puts {
        put.wait().unwrap();
    }
    let last = patient.put("w", "last").unwrap().revision();
    links.heal();
    let mut seen: Vec<Revision> = Vec::new();
    while seen.last() != Some(&last) {
        let response = watcher.recv_timeout(2 * SOON).unwrap().unwrap();
        seen.extend(response.events().iter().map(Event::revision));
    }
    assert!(
        seen.windows(2).all(|pair| pair[0] < pair[1]),
        "in order, once"
    );
    assert_eq!(seen.len(), 3002);
    assert!(
        snapshots_received(cluster.member(behind)) > 0,
        "it caught up by a snapshot"
    );
}

// Case: W-40
#[test]
fn reads_of_everything_do_not_delay_a_watch() {
    let etcd = LocalEtcd::start().unwrap();
    let (reader, client) = (connect(&etcd), connect(&etcd));
    for n in 0..200 {
        client.put(format!("large/{n}"), vec![0u8; 10_000]).unwrap();
    }
    let watcher = client.watch("k").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let done = crate::support::wait::Raise(&stop);
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                reader.call(Get::prefix("large/")).unwrap();
            }
        });
        let pace = Pace::start();
        let mut slowest = Duration::ZERO;
        for n in 0..50 {
            client.put("k", n.to_string()).unwrap();
            let begun = Instant::now();
            assert_eq!(next(&watcher).events()[0].kv().value(), &n.to_string());
            slowest = slowest.max(pace.check("the event of a put", begun, ms(150)));
        }
        println!("the slowest event came {slowest:?} after its put");
        drop(done);
    });
}

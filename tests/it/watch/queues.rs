//! The queues between the watch task and its readers: bursts that they hold, and readers that are too slow.

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, KeyRange, Put, Revision, Watch};

use super::{SOON, connect, events, eventually_watches, last_error, next};
use crate::support::proxy::{Dir, Proxy};

/// More than a reader receives while it is not scheduled, at the highest rate of etcd.
const BURST: usize = 3_000;

/// Connects a client whose queues have room for so many responses.
fn with_room(etcd: &LocalEtcd, responses: usize) -> Client {
    let client = Client::builder([etcd.endpoint()]).watch_queue(responses, 1 << 20);
    client.connect().unwrap()
}

/// Changes ten keys, with a revision for each change.
fn put_burst(etcd: &LocalEtcd) -> Revision {
    // On a slow machine, the last put waits for all others.
    let client = Client::builder([etcd.endpoint()]).timeout(SOON);
    let client = client.connect().unwrap();
    let puts: Vec<_> = (0..BURST)
        .map(|n| client.submit(Put::new(format!("k/{}", n % 10), n.to_string())))
        .collect();
    puts.into_iter().fold(Revision::NONE, |newest, put| {
        newest.max(put.wait().unwrap().revision())
    })
}

// etcd sends at most 1,000 revisions per 100 ms to a watch that is created again, so a watch that pauses while
// more is written does not catch up.
#[test]
fn a_reader_that_is_late_for_a_moment_pauses_no_watch() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let watcher = client.watch(Watch::prefix("k/")).unwrap();
    let set = client.watch_set().unwrap();
    set.add_all((0..10).map(|n| Watch::key(format!("k/{n}"))))
        .unwrap();
    put_burst(&etcd);
    // Nothing is read before everything is written.
    events(&watcher, BURST);
    let mut from_set = 0;
    while from_set < BURST {
        from_set += set.recv_timeout(SOON).unwrap().1.unwrap().events().len();
    }
    assert_eq!(client.metrics().watches.pauses, 0);
}

#[test]
fn a_burst_pauses_no_watch_of_a_task() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let mirror = client.mirror(KeyRange::prefix("k/")).unwrap();
    proxy.hold(Dir::Down, true);
    let newest = put_burst(&etcd);
    proxy.hold(Dir::Down, false);
    mirror.wait_revision(newest, SOON).unwrap();
    assert_eq!(client.metrics().watches.pauses, 0);
}

// Fault: F33
#[test]
fn a_watch_with_a_slow_reader_pauses_without_loss_and_others_continue() {
    let etcd = LocalEtcd::start().unwrap();
    let client = with_room(&etcd, 4);
    let slow = client.watch("k").unwrap();
    let quick = client.watch("k").unwrap();
    for n in 0..50 {
        client.put("k", n.to_string()).unwrap();
        assert_eq!(next(&quick).events()[0].kv().value(), &n.to_string());
    }
    eventually_watches(&etcd, 1);
    assert_eq!(slow.receiver().len(), 4);
    let values: Vec<_> = events(&slow, 50)
        .iter()
        .map(|event| event.kv().value_str().unwrap().parse::<usize>().unwrap())
        .collect();
    assert!(values.into_iter().eq(0..50));
    eventually_watches(&etcd, 2);
    client.put("k", "live").unwrap();
    assert_eq!(next(&slow).events()[0].kv().value(), "live");
}

#[test]
fn a_slow_reader_receives_compacted_after_a_compaction() {
    let etcd = LocalEtcd::start().unwrap();
    let client = with_room(&etcd, 2);
    let slow = client.watch("k").unwrap();
    let mut revision = Revision::NONE;
    for n in 0..10 {
        revision = client.put("k", n.to_string()).unwrap().header().revision;
    }
    eventually_watches(&etcd, 0);
    client.compact(revision).unwrap();
    assert_eq!(events(&slow, 2).len(), 2);
    assert_eq!(last_error(&slow), ErrorKind::Compacted);
}

#[test]
fn a_full_set_pauses_without_loss() {
    let etcd = LocalEtcd::start().unwrap();
    let client = with_room(&etcd, 8);
    let set = client.watch_set().unwrap();
    let keys = set
        .add_all((0..20).map(|n| Watch::key(format!("k/{n}"))))
        .unwrap();
    for round in 0..5 {
        for n in 0..20 {
            client.put(format!("k/{n}"), round.to_string()).unwrap();
        }
    }
    let mut seen = vec![Vec::new(); 20];
    while seen.iter().map(Vec::len).sum::<usize>() < 100 {
        let (key, item) = set.receiver().recv_timeout(SOON).unwrap();
        let n = keys.iter().position(|k| *k == key).unwrap();
        let values = item.unwrap().into_events();
        seen[n].extend(
            values
                .iter()
                .map(|e| e.kv().value_str().unwrap().to_owned()),
        );
    }
    for values in seen {
        assert_eq!(values, ["0", "1", "2", "3", "4"]);
    }
}

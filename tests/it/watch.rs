//! Watches on a real etcd.

use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, EventKind, KeyRange, Watch, Watcher};

const SOON: Duration = Duration::from_secs(10);

fn connect(etcd: &LocalEtcd) -> Client {
    Client::connect([etcd.endpoint()]).unwrap()
}

#[test]
fn a_watch_sees_puts_and_deletions() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let watcher = client.watch(Watch::prefix("a/").prev_kv()).unwrap();
    let first = client.put("a/1", "one").unwrap().header().revision;
    client.put("a/1", "two").unwrap();
    client.put("b", "not this").unwrap();
    client.delete("a/1").unwrap();
    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(watcher.recv_timeout(SOON).unwrap().unwrap().into_events());
    }
    let kinds: Vec<_> = events.iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, [EventKind::Put, EventKind::Put, EventKind::Delete]);
    assert!(events[0].is_create() && events[1].is_modify());
    assert_eq!(events[0].revision(), first);
    assert_eq!(events[2].prev_kv().unwrap().value(), "two");
    assert!(watcher.try_recv().is_err());
}

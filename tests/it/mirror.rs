//! Mirrors of a key range: changes, outages, compaction, restored stores.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::mirror::{KeyChange, Mirror, MirrorEvent};
use etcd_blocking::{Client, Delete, ErrorKind, Get, KeyRange, Put, Revision, Txn, Watch};

use crate::support::proxy::{Dir, Proxy};
use crate::support::server::{EARLY_PROGRESS, skip_before};
use crate::support::wait::{eventually, items};

const SOON: Duration = Duration::from_secs(30);

type Keys = BTreeMap<String, String>;

/// Applies one event to a map.
fn apply(keys: &mut Keys, event: &MirrorEvent) {
    let (MirrorEvent::Changed { changes, .. } | MirrorEvent::Reset { changes, .. }) = event else {
        return;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for change in changes {
        match change {
            KeyChange::Put { kv, prev } => {
                let before = keys.insert(text(kv.key()), text(kv.value()));
                assert_eq!(
                    before,
                    prev.as_ref().map(|kv| text(kv.value())),
                    "{}",
                    text(kv.key())
                );
            }
            KeyChange::Deleted { prev, .. } => {
                assert_eq!(keys.remove(&text(prev.key())), Some(text(prev.value())));
            }
            _ => panic!("a third kind of change: {change:?}"),
        }
    }
}

fn shown(mirror: &Mirror) -> Keys {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    mirror
        .snapshot()
        .iter()
        .map(|kv| (text(kv.key()), text(kv.value())))
        .collect()
}

/// Reads events until `done`; returns the number of resets.
fn follow(mirror: &Mirror, keys: &mut Keys, done: impl Fn(&Keys) -> bool) -> usize {
    let mut resets = 0;
    while !done(keys) {
        let event = mirror
            .changes()
            .recv_timeout(SOON)
            .expect("an event")
            .expect("not the end");
        resets += usize::from(matches!(event, MirrorEvent::Reset { .. }));
        apply(keys, &event);
    }
    resets
}

#[test]
fn the_list_and_the_events_produce_the_snapshot() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    for n in 0..2500 {
        drop(client.submit(Put::new(format!("m/{n:04}"), "first")));
    }
    eventually(SOON, "all puts", || {
        (client.get_prefix("m/").unwrap().len() == 2500).then_some(())
    });
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    assert_eq!(
        mirror.snapshot().len(),
        2500,
        "listed in pages when open() returns"
    );
    client.delete("m/0000").unwrap();
    client.put("other", "not mine").unwrap();
    let put = client
        .txn(Txn::always([Put::new("m/a", "1"), Put::new("m/b", "2")]))
        .unwrap();
    let snapshot = mirror.wait_revision(put.revision(), SOON).unwrap();
    assert_eq!(snapshot.len(), 2501);
    let mut keys = Keys::new();
    assert_eq!(
        follow(&mirror, &mut keys, |keys| keys.contains_key("m/b")),
        1
    );
    assert_eq!(keys, shown(&mirror));
}

#[test]
fn a_mirror_reaches_revisions_outside_its_range() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    client.put("m/a", "1").unwrap();
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    let elsewhere = client.put("elsewhere", "1").unwrap();
    assert!(
        mirror
            .wait_revision(elsewhere.revision(), SOON)
            .unwrap()
            .revision()
            >= elsewhere.revision()
    );
    let late = mirror.wait_revision(elsewhere.revision().next(), Duration::from_millis(50));
    assert_eq!(late.unwrap_err().kind(), etcd_blocking::ErrorKind::Timeout);
}

// Fault: W13
#[test]
fn a_mirror_reaches_the_newest_revision_beside_watches_that_begin_after_it() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    let newest = client.put("elsewhere", "1").unwrap().revision();
    // Nobody writes any more, so the store does not reach their starts.
    let next = client.watch(Watch::key("x").after(newest)).unwrap();
    let later = Watch::key("y").start_revision(Revision::new(newest.get() + 3));
    let later = client.watch(later).unwrap();
    mirror.wait_revision(newest, SOON).unwrap();
    mirror.wait_revision(newest, SOON).unwrap();

    // They still begin where they were told to.
    for n in 1..=3 {
        client.put("x", n.to_string()).unwrap();
        client.put("y", n.to_string()).unwrap();
    }
    let first = next.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(first.events()[0].kv().value_str().unwrap(), "1");
    let first = later.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(first.events()[0].kv().value_str().unwrap(), "2");
}

// Fault: F16
#[test]
fn a_compaction_during_a_disconnect_is_one_reset_with_the_exact_difference() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    for key in ["m/kept", "m/changed", "m/deleted"] {
        direct.put(key, "before").unwrap();
    }
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    let mut keys = Keys::new();
    follow(&mirror, &mut keys, |keys| keys.len() == 3);
    proxy.cut();
    eventually(SOON, "the mirror is stale", || mirror.staleness());
    direct.put("m/changed", "after").unwrap();
    direct.delete("m/deleted").unwrap();
    let last = direct.put("m/new", "after").unwrap().revision();
    direct.compact(last).unwrap();
    assert_eq!(mirror.snapshot().len(), 3, "it keeps what it has");
    proxy.restore();
    let resets = follow(&mirror, &mut keys, |keys| keys.contains_key("m/new"));
    assert_eq!(resets, 1);
    assert_eq!(keys, shown(&mirror));
    eventually(SOON, "it follows again", || {
        mirror.staleness().is_none().then_some(())
    });
    let expected = [
        ("m/changed", "after"),
        ("m/kept", "before"),
        ("m/new", "after"),
    ];
    assert_eq!(
        keys,
        expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
}

// Fault: F4
#[test]
fn a_store_that_lost_its_data_is_one_reset() {
    let mut etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    for n in 0..20 {
        client.put(format!("m/{n}"), "before").unwrap();
    }
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    let mut keys = Keys::new();
    follow(&mirror, &mut keys, |keys| keys.len() == 20);
    etcd.restart_wiped().unwrap();
    // Read first: a write on the connection that has just ended would have an unknown outcome.
    client.get("m/reborn").unwrap();
    client.put("m/reborn", "after").unwrap();
    follow(&mirror, &mut keys, |keys| {
        keys.len() == 1 && keys.contains_key("m/reborn")
    });
    assert_eq!(keys, shown(&mirror));
}

// Fault: W14
#[test]
fn a_wait_for_a_revision_of_a_new_store_does_not_end_with_the_contents_of_the_lost_one() {
    let mut etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect(proxy.endpoint()).unwrap();
    for n in 0..100 {
        client.put("m/lost", n.to_string()).unwrap();
    }
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    let had = mirror.snapshot().revision();
    proxy.cut();
    etcd.restart_wiped().unwrap();
    let direct = Client::connect(etcd.endpoint()).unwrap();
    for n in 0..40 {
        let keys = (0..50).map(|key| Put::new(format!("m/kept/{n}/{key}"), [b'x'; 1000]));
        direct.call(Txn::always(keys)).unwrap();
    }
    // The new list takes seconds, and the answer to a write does not.
    proxy.throttle(Dir::Down, Some(1_000_000));
    proxy.restore();
    let written = eventually(SOON, "a write succeeds", || client.put("m/new", "x").ok());
    assert!(written.revision() < had);
    let contents = mirror.wait_revision(written.revision(), SOON).unwrap();
    assert!(
        contents.get(b"m/new").is_some(),
        "at {}",
        contents.revision()
    );
}

// Fault: F34
#[test]
fn a_slow_reader_gets_one_reset_for_all_missed_changes() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    let mut keys = Keys::new();
    // The reader takes one event and then none.
    let first = mirror.changes().recv_timeout(SOON).unwrap().unwrap();
    apply(&mut keys, &first);
    // More bytes than the queue of a mirror holds. Each round is applied before the next one begins: etcd may send all
    // events of a round in one response, and a large response can overflow a queue that is less than half full, which
    // is a reset of its own.
    for round in 0..150 {
        let puts = (0..10).map(|n| {
            let n = 10 * round + n;
            client.submit(Put::new(format!("m/{}", n % 50), format!("{n:>16384}")))
        });
        // Requests in flight together take effect in any order: the last one sent need not be the last revision.
        let puts: Vec<_> = puts.collect();
        let revisions = puts.into_iter().map(|put| put.wait().unwrap().revision());
        let last = revisions.max().unwrap();
        mirror.wait_revision(last, SOON).unwrap();
    }
    assert!(
        mirror.changes().len() <= 4097,
        "{} events wait",
        mirror.changes().len()
    );
    let end = shown(&mirror);
    let resets = follow(&mirror, &mut keys, |keys| *keys == end);
    assert_eq!(resets, 1, "one reset replaces all missed changes");
    client.put("m/later", "x").unwrap();
    assert_eq!(
        follow(&mirror, &mut keys, |keys| keys.contains_key("m/later")),
        0
    );
}

#[test]
fn closing_the_client_is_the_last_event_of_a_mirror() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    client.clone().close().unwrap();
    let last = items(mirror.changes(), SOON).last().unwrap();
    assert_eq!(last.unwrap_err().kind(), etcd_blocking::ErrorKind::Closed);
    let waited = mirror.wait_revision(etcd_blocking::Revision::new(99), SOON);
    assert_eq!(waited.unwrap_err().kind(), etcd_blocking::ErrorKind::Closed);
}

#[test]
fn mirrors_are_opened_at_the_same_time_and_their_errors_arrive_with_the_results() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect(proxy.endpoint()).unwrap();
    client.put("a/1", "x").unwrap();
    // No answer arrives, so that all of them are open together.
    proxy.hold(Dir::Down, true);
    let pending: Vec<_> = (0..50)
        .map(|_| client.submit_mirror(KeyRange::prefix("a/")))
        .collect();
    let invalid = client.submit_mirror(KeyRange::key(""));
    assert_eq!(
        invalid.wait().unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert!(pending.iter().all(|pending| pending.try_wait().is_none()));
    proxy.hold(Dir::Down, false);
    for pending in pending {
        let mirror = pending.wait_timeout(SOON).unwrap().unwrap();
        assert_eq!(mirror.snapshot().len(), 1);
    }
    proxy.cut();
    let error = client
        .with_timeout(Duration::from_millis(200))
        .submit_mirror(KeyRange::prefix("a/"))
        .wait()
        .unwrap_err();
    assert!(error.to_string().starts_with("mirror "), "{error}");
    client.clone().close().unwrap();
    let closed = client.submit_mirror(KeyRange::prefix("a/")).wait();
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn each_snapshot_that_is_held_is_the_store_at_its_revision() {
    const KEYS: usize = 3_000;
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect(etcd.endpoint()).unwrap();
    let key = |n: usize| format!("m/{:05}", n % KEYS);
    for first in (0..KEYS).step_by(100) {
        let puts = (first..first + 100).map(|n| Put::new(key(n), "v"));
        client.call(Txn::always(puts)).unwrap();
    }
    let range = KeyRange::prefix("m/");
    let mirror = client.mirror(range.clone()).unwrap();
    let mut held = vec![mirror.snapshot()];
    let mut keys = Keys::new();
    for n in 0..60 {
        let revision = match n % 3 {
            0 => client.put(key(n * 701), format!("{n}")).unwrap().revision(),
            1 => client.put(format!("m/{n}/new"), "v").unwrap().revision(),
            _ => {
                let deleted = KeyRange::range(key(n * 97), key(n * 97 + 70));
                client.call(Delete::range(deleted)).unwrap().revision()
            }
        };
        held.push(mirror.wait_revision(revision, SOON).unwrap());
        if n == 30 {
            // The first event has the contents of now, and the others follow it.
            mirror.changes();
        }
    }
    for snapshot in &held {
        let get = Get::range(range.clone()).revision(snapshot.revision());
        let stored = client.call(get).unwrap();
        assert!(snapshot.iter().eq(stored.kvs()), "{}", snapshot.revision());
        assert_eq!(snapshot.len(), stored.kvs().len());
    }
    let end = shown(&mirror);
    assert_eq!(follow(&mirror, &mut keys, |keys| *keys == end), 1);
}

//! A store that lost its data, and has more revisions than before when its watches connect again: neither the
//! revision nor the raft term shows that it was replaced.

use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::mirror::{Cache, Mirror, MirrorEvent, ResetCause};
use etcd_blocking::{Client, ErrorKind, KeyRange, Revision, Watch};

use crate::cache::first_linearizable;
use crate::support::proxy::Proxy;
use crate::support::server::{EARLY_PROGRESS, skip_before};
use crate::support::wait::{eventually, items};

const SOON: Duration = Duration::from_secs(30);

/// An etcd with some keys, and a client that reaches it through a proxy.
struct Setup {
    etcd: LocalEtcd,
    proxy: Proxy,
    client: Client,
}

impl Setup {
    fn new(keys: &[&str]) -> Self {
        let etcd = LocalEtcd::start().unwrap();
        let proxy = Proxy::start(etcd.client_addr()).unwrap();
        let client = Client::connect(proxy.endpoint()).unwrap();
        let setup = Setup {
            etcd,
            proxy,
            client,
        };
        setup.put(keys);
        setup
    }

    /// Puts keys past the proxy, and returns the last revision.
    fn put(&self, keys: &[&str]) -> Revision {
        let direct = Client::connect(self.etcd.endpoint()).unwrap();
        keys.iter().fold(Revision::NONE, |_, key| {
            direct.put(*key, "v").unwrap().revision()
        })
    }

    /// Loses all data and writes these keys. The client connects again only when the new store has more
    /// revisions than the old one had.
    fn lose(&mut self, keys: &[&str]) {
        self.proxy.cut();
        let before = self.put(&["last"]);
        self.etcd.restart_wiped().unwrap();
        self.put(keys);
        while self.put(&["later"; 20]) <= before {}
        self.proxy.restore();
    }
}

// Fault: F4
#[test]
fn a_watch_that_has_delivered_an_event_ends_with_rewound() {
    let mut setup = Setup::new(&[]);
    let watcher = setup.client.watch(Watch::prefix("k/")).unwrap();
    setup.put(&["k/1"]);
    watcher.recv_timeout(SOON).unwrap().unwrap();
    setup.lose(&["k/2"]);
    let error = watcher.recv_timeout(SOON).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rewound);
    let text = error.to_string();
    assert!(text.contains("revision 2 "), "{text}");
}

#[test]
fn a_watch_ends_with_rewound_if_the_lost_store_had_the_same_first_keys() {
    let mut setup = Setup::new(&["k/1", "k/2"]);
    let watcher = setup.client.watch(Watch::prefix("k/")).unwrap();
    setup.put(&["k/3"]);
    watcher.recv_timeout(SOON).unwrap().unwrap();
    setup.lose(&["k/1", "k/2", "k/4"]);
    let error = watcher.recv_timeout(SOON).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rewound);
}

// Fault: F4
#[test]
fn a_mirror_without_an_event_since_its_list_is_one_reset() {
    let mut setup = Setup::new(&["m/1", "m/2"]);
    let mirror = setup.client.mirror(KeyRange::prefix("m/")).unwrap();
    assert_eq!(next_reset(&mirror), ResetCause::First);
    setup.lose(&["m/3"]);
    assert_eq!(next_reset(&mirror), ResetCause::Rewound);
    let contents = mirror.snapshot();
    assert!(contents.get(b"m/3").is_some() && contents.len() == 1);
}

#[test]
fn a_second_loss_and_a_key_whose_revision_is_compacted_are_recognised() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let mut setup = Setup::new(&["m/quiet"]);
    let mirror = setup.client.mirror(KeyRange::prefix("m/")).unwrap();
    next_reset(&mirror);
    for round in 0..2 {
        // The list is older than what is compacted, and the watch resumes once before the loss.
        let newest = setup.put(&["other"; 20]);
        mirror.wait_revision(newest, SOON).unwrap();
        let direct = Client::connect(setup.etcd.endpoint()).unwrap();
        direct.compact(newest).unwrap();
        let streams = setup.client.metrics().watches.streams;
        setup.proxy.cut();
        setup.proxy.restore();
        eventually(SOON, "the watch resumes", || {
            (setup.client.metrics().watches.streams > streams).then_some(())
        });
        mirror.wait_revision(newest, SOON).unwrap();
        let quiet = format!("m/quiet/{round}");
        setup.lose(&[&quiet]);
        assert_eq!(next_reset(&mirror), ResetCause::Rewound, "{round}");
        let contents = mirror.snapshot();
        assert!(contents.get(quiet.as_bytes()).is_some() && contents.len() == 1);
    }
}

fn next_reset(mirror: &Mirror) -> ResetCause {
    let mut events = items(mirror.changes(), SOON);
    let reset = events.find_map(|event| match event.unwrap() {
        MirrorEvent::Reset { cause, .. } => Some(cause),
        _ => None,
    });
    reset.unwrap()
}

#[test]
fn a_mirror_below_a_namespace_is_one_reset() {
    let mut setup = Setup::new(&["space/m/1"]);
    let inside = setup.client.namespace("space/").unwrap();
    let mirror = inside.mirror(KeyRange::prefix("m/")).unwrap();
    assert_eq!(mirror.snapshot().len(), 1);
    setup.lose(&["space/m/2"]);
    eventually(SOON, "the new contents", || {
        mirror.snapshot().get(b"m/2").map(|_| ())
    });
    assert_eq!(mirror.snapshot().len(), 1);
}

#[test]
fn a_linearizable_read_of_a_cache_has_the_contents_of_the_new_store() {
    let mut setup = Setup::new(&["c/lost"]);
    let cache = Cache::open(&setup.client, "c/").unwrap();
    assert!(cache.linearizable().unwrap().get(b"c/lost").is_some());
    setup.lose(&["c/kept"]);
    let shown = first_linearizable(&cache);
    assert!(shown.get(b"c/kept").is_some() && shown.len() == 1);
}

/// The seen key has changed, and its revision is compacted: the comparison has no result.
#[test]
fn a_comparison_without_a_result_ends_no_watch() {
    let setup = Setup::new(&[]);
    let watcher = setup.client.watch(Watch::prefix("k/")).unwrap();
    setup.put(&["k/1"]);
    let seen = watcher.recv_timeout(SOON).unwrap().unwrap().revision();
    setup.proxy.cut();
    let changed = setup.put(&["k/1"]);
    assert_eq!(changed, seen.next());
    let direct = Client::connect(setup.etcd.endpoint()).unwrap();
    direct.compact(changed).unwrap();
    setup.proxy.restore();
    let next = watcher.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(next.events()[0].kv().mod_revision(), changed);
}

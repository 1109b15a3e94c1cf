//! Read-through cache of a prefix.

use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::mirror::{Cache, Snapshot};
use etcd_blocking::{Client, ErrorKind, Get, KeyRange, Put, Revision, Txn};

use crate::support::proxy::{Dir, Proxy};
use crate::support::server::{EARLY_PROGRESS, skip_before};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

// Case: LS-10, LS-13
#[test]
fn writes_through_a_cache_are_read_from_it() {
    let (_etcd, client) = start();
    let cache = Cache::open(&client, "c/").unwrap();
    for n in 0..100 {
        let put = cache.put("c/k", n.to_string()).unwrap();
        let read = cache.get("c/k").unwrap().unwrap();
        assert_eq!(
            (read.value_str(), read.mod_revision()),
            (Some(&*n.to_string()), put.revision())
        );
        assert!(cache.revision() >= put.revision());
    }
    let both = [Put::new("c/a", "1"), Put::new("elsewhere", "1")];
    cache.txn(Txn::always(both)).unwrap();
    let read = cache.txn(Txn::always([Get::key("c/a")])).unwrap();
    assert_eq!(
        read.get(0).unwrap().first(),
        cache.get("c/a").unwrap().as_ref()
    );
    assert_eq!(cache.count(KeyRange::prefix("c/")).unwrap(), 2);
    cache.delete(KeyRange::prefix("c/")).unwrap();
    assert!(cache.list(KeyRange::prefix("c/")).unwrap().is_empty());
}

// Case: LS-01, LS-08
#[test]
fn writes_of_another_client_are_visible_to_linearizable_reads_and_from_their_revision_on() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let (etcd, client) = start();
    let cache = Cache::open(&client, "c/").unwrap();
    let other = Client::connect([etcd.endpoint()]).unwrap();
    for n in 0..50 {
        let n = n.to_string();
        other.put("c/k", n.clone()).unwrap();
        assert_eq!(
            cache.get_linearizable("c/k").unwrap().unwrap().value(),
            n.as_bytes()
        );
        let put = other.put("c/k", format!("{n}+")).unwrap().revision();
        let read = cache.get_at_least(put, "c/k").unwrap().unwrap();
        assert_eq!(read.mod_revision(), put);
    }
}

#[test]
fn a_linearizable_snapshot_reaches_revisions_outside_the_prefix() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let (_etcd, client) = start();
    let cache = Cache::open(&client, "c/").unwrap();
    for _ in 0..20 {
        let beside = client.put("beside", "x").unwrap().revision();
        assert!(cache.linearizable().unwrap().revision() >= beside);
    }
}

#[test]
fn a_future_revision_is_awaited_for_the_wait_timeout_at_most() {
    let (_etcd, client) = start();
    let cache = Cache::builder(&client, "c/")
        .wait_timeout(Duration::from_millis(50))
        .open()
        .unwrap();
    let next = client.put("c/k", "1").unwrap().revision().next();
    let late = cache.get_at_least(next, "c/k").unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    let cache = Cache::open(&client, "c/").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| cache.get_at_least(next, "c/k"));
        assert_eq!(client.put("c/k", "2").unwrap().revision(), next);
        assert_eq!(waiting.join().unwrap().unwrap().unwrap().value(), "2");
    });
}

// Case: LS-05
#[test]
fn ranges_that_are_not_entirely_inside_the_prefix_are_read_from_etcd() {
    if skip_before(EARLY_PROGRESS.0, EARLY_PROGRESS.1) {
        return;
    }
    let (_etcd, client) = start();
    let cache = Cache::open(&client, "c/").unwrap();
    for key in ["b", "c0", "d", "c/1", "c/2"] {
        cache.put(key, key).unwrap();
    }
    assert_eq!(cache.get("b").unwrap().unwrap().value(), "b");
    assert_eq!(cache.get_linearizable("d").unwrap().unwrap().value(), "d");
    let keys = |range: KeyRange| {
        let list = cache.list(range.clone()).unwrap();
        assert_eq!(cache.count(range).unwrap(), list.len() as u64);
        list.iter()
            .map(|kv| kv.key_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(KeyRange::prefix("c")), ["c/1", "c/2", "c0"]);
    assert_eq!(keys(KeyRange::from_key("c/2")), ["c/2", "c0", "d"]);
    assert_eq!(keys(KeyRange::prefix("c/")), ["c/1", "c/2"]);
    assert_eq!(keys(KeyRange::range("c/1", "c/2")), ["c/1"]);
    // etcd receives no read of the prefix.
    client.close().unwrap();
    let ended = cache.get("c/1").unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Closed, "{ended}");
    assert_eq!(
        cache.snapshot().len(),
        2,
        "what it had is still there to look at"
    );
}

// Case: LS-02, LS-09
#[test]
fn without_a_limit_reads_are_answered_during_an_outage_and_reported_as_stale() {
    let (mut etcd, _) = start();
    let client = Client::builder([etcd.endpoint()])
        .timeout(Duration::from_millis(500))
        .connect()
        .unwrap();
    client.put("c/k", "v").unwrap();
    let cache = Cache::open(&client, "c/").unwrap();
    etcd.stop().unwrap();
    eventually(SOON, "the cache is stale", || cache.staleness());
    assert_eq!(cache.get("c/k").unwrap().unwrap().value(), "v");
    assert_eq!(cache.count(KeyRange::prefix("c/")).unwrap(), 1);
    assert!(cache.get_linearizable("c/k").is_err() && cache.get("other").is_err());
    assert!(cache.put("c/k", "never").is_err());
    assert_eq!(
        cache.get("c/k").unwrap().unwrap().value(),
        "v",
        "a write that failed does not show"
    );
    etcd.restart().unwrap();
    eventually(SOON, "it follows again", || {
        cache.staleness().is_none().then_some(())
    });
    cache.put("c/k", "w").unwrap();
    assert_eq!(cache.get("c/k").unwrap().unwrap().value(), "w");
}

// Case: LS-11
#[test]
fn with_a_limit_no_read_returns_older_contents_even_when_the_link_is_silent() {
    let (etcd, direct) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .timeout(Duration::from_millis(500))
        .connect()
        .unwrap();
    direct.put("c/k", "old").unwrap();
    let limit = Duration::from_millis(300);
    let cache = Cache::builder(&client, "c/")
        .stale_limit(limit)
        .wait_timeout(limit)
        .open()
        .unwrap();
    assert_eq!(cache.get("c/k").unwrap().unwrap().value(), "old");
    proxy.hold(Dir::Down, true);
    direct.put("c/k", "new").unwrap();
    let written = Instant::now();
    let refused = eventually(SOON, "it refuses", || {
        let since = written.elapsed();
        match cache.get("c/k") {
            // The answer was current within the limit.
            Ok(kv) => assert!(kv.unwrap().value() == "new" || since < limit, "{since:?}"),
            Err(refused) => return Some(refused),
        }
        None
    });
    assert!(refused.is_retryable(), "{refused}");
    assert!(
        refused.to_string().starts_with("read the cache of"),
        "{refused}"
    );
    assert_eq!(cache.staleness(), None, "the outage is not detected yet");
    assert_eq!(
        cache.snapshot().get(b"c/k").unwrap().value(),
        "old",
        "a read without a limit returns it"
    );
    proxy.hold(Dir::Down, false);
    let read = eventually(SOON, "it answers again", || cache.get("c/k").ok());
    assert_eq!(read.unwrap().value(), "new");
}

#[test]
fn old_contents_are_not_returned_after_the_store_lost_its_data() {
    let (mut etcd, client) = start();
    let cache = Cache::builder(&client, "c/")
        .wait_timeout(Duration::from_millis(500))
        .open()
        .unwrap();
    for n in 0..20 {
        cache.put("c/k", n.to_string()).unwrap();
    }
    etcd.restart_wiped().unwrap();
    let gone = eventually(SOON, "it has found out", || {
        match cache.get_linearizable("c/k") {
            Ok(kv) => Some(kv),
            Err(error) => {
                assert!(
                    error.kind() == ErrorKind::Rewound || error.is_retryable(),
                    "{error}"
                );
                None
            }
        }
    });
    assert_eq!(gone, None);
    eventually(SOON, "reads do not wait for lost writes", || {
        cache.get("c/k").ok()
    });
    cache.put("c/k", "reborn").unwrap();
    assert_eq!(cache.get("c/k").unwrap().unwrap().value(), "reborn");
}

/// Reads until a read succeeds after the store was replaced.
pub(crate) fn first_linearizable(cache: &Cache) -> Snapshot {
    eventually(SOON, "a read succeeds", || match cache.linearizable() {
        Ok(contents) => Some(contents),
        Err(error) => {
            let expected = error.kind() == ErrorKind::Rewound || error.is_retryable();
            assert!(expected, "{error}");
            None
        }
    })
}

// Fault: W14
#[test]
fn contents_of_a_lost_store_are_not_returned_when_the_next_one_has_their_revision() {
    let mut etcd = LocalEtcd::start().unwrap();
    // Each start begins a raft term: the next store has a lower one, which shows the loss.
    etcd.restart().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect(proxy.endpoint()).unwrap();
    let cache = Cache::open(&client, "c/").unwrap();
    for n in 0..40 {
        cache.put("c/lost", n.to_string()).unwrap();
    }
    let had = cache.linearizable().unwrap().revision();
    proxy.cut();
    etcd.restart_wiped().unwrap();
    let direct = Client::connect(etcd.endpoint()).unwrap();
    let mut now_at = Revision::NONE;
    while now_at < had {
        let keys = (0..50).map(|n| Put::new(format!("c/kept/{now_at}/{n}"), [b'x'; 1000]));
        now_at = direct.call(Txn::always(keys)).unwrap().header().revision;
    }
    assert_eq!(now_at, had);
    // The new list takes seconds, and the answers to other reads do not.
    proxy.throttle(Dir::Down, Some(1_000_000));
    proxy.restore();
    let shown = first_linearizable(&cache);
    assert!(shown.get(b"c/lost").is_none(), "at {}", shown.revision());
    assert_eq!(shown.len(), 50 * 40);
}

// Fault: W14
#[test]
fn own_writes_to_a_store_that_replaced_another_one_are_visible() {
    let mut etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect(proxy.endpoint()).unwrap();
    let cache = Cache::builder(&client, "c/")
        .wait_timeout(Duration::from_millis(100))
        .open()
        .unwrap();
    for n in 0..100 {
        cache.put("c/lost", n.to_string()).unwrap();
    }
    proxy.cut();
    etcd.restart_wiped().unwrap();
    let direct = Client::connect(etcd.endpoint()).unwrap();
    for n in 0..40 {
        let keys = (0..50).map(|key| Put::new(format!("c/kept/{n}/{key}"), [b'x'; 1000]));
        direct.call(Txn::always(keys)).unwrap();
    }
    // The new list takes seconds, and the answers to other requests do not.
    proxy.throttle(Dir::Down, Some(1_000_000));
    proxy.restore();
    eventually(SOON, "a write succeeds", || cache.put("c/new", "x").ok());
    let read = cache.get("c/new").unwrap().expect("it was just put");
    assert_eq!(read.value(), "x");
}

#[test]
fn reads_that_the_mirror_cannot_answer_in_time_go_to_etcd() {
    let (etcd, client) = start();
    let other = Client::connect([etcd.endpoint()]).unwrap();
    let impatient = || Cache::builder(&client, "c/").wait_timeout(Duration::ZERO);
    let cache = impatient().open().unwrap();
    let limited = impatient().stale_limit(Duration::ZERO).open().unwrap();
    for n in 0..50 {
        let n = n.to_string();
        cache.put("c/own", n.clone()).unwrap();
        assert_eq!(cache.get("c/own").unwrap().unwrap().value(), n.as_bytes());
        let revision = other.put("c/k", n.clone()).unwrap().revision();
        assert_eq!(
            cache
                .get_at_least(revision, "c/k")
                .unwrap()
                .unwrap()
                .value(),
            n.as_bytes()
        );
        assert_eq!(
            cache.get_linearizable("c/k").unwrap().unwrap().value(),
            n.as_bytes()
        );
        assert_eq!(limited.get("c/k").unwrap().unwrap().value(), n.as_bytes());
        assert_eq!(limited.list("c/k").unwrap()[0].value(), n.as_bytes());
    }
}

// Case: LS-03
#[test]
fn an_expired_key_is_removed_from_the_cache() {
    let (_etcd, client) = start();
    let cache = Cache::open(&client, "c/").unwrap();
    let lease = client.grant(Duration::from_secs(60)).unwrap().id();
    let put = client.call(Put::new("c/k", "v").lease(lease)).unwrap();
    let kv = cache.get_at_least(put.revision(), "c/k").unwrap().unwrap();
    assert_eq!(kv.lease(), Some(lease));
    client.revoke(lease).unwrap();
    assert_eq!(cache.get_linearizable("c/k").unwrap(), None);
}

// Case: LS-06
#[test]
fn concurrent_puts_through_several_caches_end_with_exact_versions() {
    let (etcd, client) = start();
    thread::scope(|scope| {
        for _ in 0..4 {
            let client = Client::connect([etcd.endpoint()]).unwrap();
            scope.spawn(move || {
                let cache = Cache::open(&client, "c/").unwrap();
                for _ in 0..25 {
                    let put = cache.put("c/k", "v").unwrap().revision();
                    assert!(cache.get("c/k").unwrap().unwrap().mod_revision() >= put);
                }
            });
        }
    });
    let cache = Cache::open(&client, "c/").unwrap();
    let kv = cache.get("c/k").unwrap().unwrap();
    assert_eq!(kv.version(), 100);
    assert_eq!(kv.mod_revision().get(), kv.create_revision().get() + 99);
}

// Case: LS-12
#[test]
fn a_disconnected_cache_catches_up_even_after_a_compaction() {
    let (etcd, direct) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    direct.put("c/gone", "before").unwrap();
    direct.put("c/k", "before").unwrap();
    let cache = Cache::open(&client, "c/").unwrap();
    proxy.cut();
    eventually(SOON, "the cache is stale", || cache.staleness());
    direct.delete("c/gone").unwrap();
    let last = direct.put("c/k", "after").unwrap().revision();
    direct.compact(last).unwrap();
    assert_eq!(
        cache.count(KeyRange::prefix("c/")).unwrap(),
        2,
        "never a moment of emptiness"
    );
    proxy.restore();
    let kv = eventually(SOON, "it catches up", || {
        cache.get_at_least(last, "c/k").ok()
    });
    assert_eq!(kv.unwrap().value(), "after");
    assert_eq!(cache.count(KeyRange::prefix("c/")).unwrap(), 1);
}

// Fault: W11
#[test]
fn a_revision_that_the_store_has_not_reached_is_refused_outside_the_prefix_too() {
    let (_etcd, client) = start();
    let cache = Cache::open(&client, "inside/").unwrap();
    let now = client.put("outside", "x").unwrap().revision();
    let seen = cache.get_at_least(now, "outside").unwrap();
    assert_eq!(seen.unwrap().mod_revision(), now);
    let future = Revision::new(i64::MAX >> 1);
    let early = cache.get_at_least(future, "outside").unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Timeout, "{early}");
}

// Fault: M3
#[test]
fn the_age_of_contents_counts_from_the_request() {
    const LIMIT: Duration = Duration::from_secs(3);
    const HELD: Duration = Duration::from_millis(2500);
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let client = client.with_timeout(SOON);
    let cache = Cache::builder(&client, "c/")
        .stale_limit(LIMIT)
        .open()
        .unwrap();
    let asked = || client.metrics().call("get").map_or(0, |call| call.ok);
    thread::scope(|scope| {
        proxy.hold(Dir::Down, true);
        let begun = Instant::now();
        let read = scope.spawn(|| cache.get("c/k").unwrap());
        thread::sleep(HELD);
        proxy.hold(Dir::Down, false);
        read.join().unwrap();
        // The request is now older than the limit; its answer is not.
        thread::sleep(
            (begun + LIMIT + Duration::from_millis(50)).saturating_duration_since(Instant::now()),
        );
        let before = asked();
        cache.get("c/k").unwrap();
        assert!(asked() > before, "an old proof counts as a new one");
    });
}

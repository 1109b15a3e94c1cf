//! Sets of watches that keep the newest event of each key.

use std::collections::HashMap;

use etcd_blocking::Result;
use etcd_blocking::watch::{LatestSet, WatchKey};

use super::*;
use crate::support::proxy::Proxy;

/// Takes items until `done` accepts the newest items of all watches.
fn follow(
    set: &LatestSet,
    what: &str,
    done: impl Fn(&HashMap<WatchKey, Result<Event>>) -> bool,
) -> HashMap<WatchKey, Result<Event>> {
    let mut newest = HashMap::new();
    eventually(SOON, what, || {
        newest.extend(set.take());
        done(&newest).then_some(())
    });
    newest
}

fn value(item: &Result<Event>) -> &str {
    item.as_ref().unwrap().kv().value_str().unwrap()
}

// Fault: R10
#[test]
fn an_unread_latest_set_pauses_no_watch_and_delivers_the_newest_event() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let set = client.latest_set().unwrap();
    // More than the queue of a client holds.
    let keys: Vec<WatchKey> = (0..300)
        .map(|n| set.submit(Watch::key(format!("k/{n}"))).unwrap())
        .collect();
    eventually(SOON, "the server has them all", || {
        set.oldest_unwatched().is_none().then_some(())
    });
    eventually_watches(&etcd, 300);
    for round in 0..5 {
        let puts = |from: usize| (from..from + 100).map(move |n| (format!("k/{n}"), round));
        for from in [0, 100, 200] {
            let puts = puts(from).map(|(key, round)| Put::new(key, round.to_string()));
            client.txn(Txn::always(puts)).unwrap();
        }
    }
    set.receiver().recv_timeout(SOON).unwrap();
    let newest = follow(&set, "the last round of all", |newest| {
        newest.len() == 300 && newest.values().all(|item| value(item) == "4")
    });
    assert!(keys.iter().all(|key| newest.contains_key(key)));
    assert_eq!(client.metrics().watches.pauses, 0);
    // Removed watches deliver nothing; the others deliver their event.
    assert!(set.remove(keys[0]) && !set.remove(keys[0]));
    client.put("k/0", "5").unwrap();
    client.delete("k/1").unwrap();
    let newest = follow(&set, "the deletion", |newest| newest.contains_key(&keys[1]));
    assert_eq!(newest.len(), 1);
    assert_eq!(newest[&keys[1]].as_ref().unwrap().kind(), EventKind::Delete);
    eventually_watches(&etcd, 299);
    drop(set);
    eventually_watches(&etcd, 0);
}

// Fault: R10
#[test]
fn a_latest_set_reports_since_when_watches_are_lost_and_when_all_are_restored() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let (behind, direct) = (Client::connect([proxy.endpoint()]).unwrap(), connect(&etcd));
    let set = behind.latest_set().unwrap();
    let before = Instant::now();
    let keys = ["a", "b", "c"].map(|key| set.submit(key).unwrap());
    assert!(set.oldest_unwatched().is_none_or(|since| since >= before));
    eventually(SOON, "the server has them all", || {
        set.oldest_unwatched().is_none().then_some(())
    });
    assert_eq!(set.unwatched_since(keys[0]), None);
    let before = set.generation();
    let cut_at = Instant::now();
    proxy.cut();
    eventually(SOON, "they are lost", || {
        (set.unwatched_before(Instant::now()).len() == 3).then_some(())
    });
    assert!(set.unwatched_before(cut_at).is_empty());
    assert!(set.unwatched_since(keys[2]).unwrap() >= cut_at);
    direct.put("b", "meanwhile").unwrap();
    assert_eq!(set.generation(), before);
    set.take();
    proxy.restore();
    // The reader does not poll: it receives a token at the end of the disconnect.
    eventually(SOON, "a new generation", || {
        set.receiver().recv_timeout(SOON).unwrap();
        set.take();
        (set.generation() == before + 1).then_some(())
    });
    assert_eq!(set.oldest_unwatched(), None);
    direct.put("b", "after").unwrap();
    follow(&set, "nothing is missing", |newest| {
        newest
            .get(&keys[1])
            .is_some_and(|item| value(item) == "after")
    });
}

#[test]
fn a_refused_watch_ends_alone_and_closed_is_the_last_item_of_a_set() {
    let etcd = LocalEtcd::start().unwrap();
    let client = connect(&etcd);
    let set = client.latest_set().unwrap();
    for (refused, advice) in [
        (Watch::key("a").progress_notify(), "watch set"),
        (Watch::key(""), "empty"),
    ] {
        let error = set.submit(refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert_eq!(set.oldest_unwatched(), None, "nothing of them is left");
    let range = set.submit(Watch::prefix("range/")).unwrap();
    follow(&set, "a key of the range", |newest| {
        client.put("range/a", "1").unwrap();
        newest.contains_key(&range)
    });
    assert!(set.remove(range));
    let first = client.put("old", "1").unwrap().revision();
    client.put("old", "2").unwrap();
    let now = client.put("old", "3").unwrap().revision();
    client.compact(now).unwrap();
    let good = set.submit("good").unwrap();
    let compacted = set.submit(Watch::key("old").start_revision(first)).unwrap();
    let newest = follow(&set, "the refusal", |newest| {
        newest.contains_key(&compacted)
    });
    let error = newest[&compacted].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted);
    assert!(!set.remove(compacted), "it is over");
    eventually(SOON, "the server has the good one", || {
        set.unwatched_since(good).is_none().then_some(())
    });
    client.put("good", "1").unwrap();
    follow(&set, "its event", |newest| newest.contains_key(&good));
    client.close().unwrap();
    let newest = follow(&set, "the end", |newest| {
        newest.contains_key(&WatchKey::SET)
    });
    assert_eq!(
        newest[&WatchKey::SET].as_ref().unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert!(set.submit("late").is_err());
    assert!(set.take().is_empty());
}

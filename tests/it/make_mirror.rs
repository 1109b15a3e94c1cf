//! Copies of a prefix to another cluster: lists, changes, outages.

mod checkpoint;
mod names;

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::mirror::{Extraneous, MakeMirror};
use etcd_blocking::{Client, Delete, ErrorKind, KeyRange, Op, Put, Revision, Txn, Watch};

use crate::support::proxy::{Dir, Proxy};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

struct Two {
    a: LocalEtcd,
    b: LocalEtcd,
    source: Client,
    destination: Client,
}

fn two() -> Two {
    let (a, b) = (LocalEtcd::start().unwrap(), LocalEtcd::start().unwrap());
    let source = Client::connect([a.endpoint()]).unwrap();
    let destination = Client::connect([b.endpoint()]).unwrap();
    Two {
        a,
        b,
        source,
        destination,
    }
}

type Keys = BTreeMap<String, String>;

/// The keys below a prefix, without the prefix.
fn below(client: &Client, prefix: &str) -> Keys {
    let kvs = client.get_prefix(prefix.to_owned()).unwrap();
    kvs.iter()
        .map(|kv| {
            let key = kv.key_lossy().strip_prefix(prefix).unwrap().to_owned();
            (key, kv.value_str().unwrap().to_owned())
        })
        .collect()
}

fn keys<const N: usize>(keys: [(&str, &str); N]) -> Keys {
    keys.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The current revision of a client's store.
fn now(client: &Client) -> Revision {
    client
        .call(etcd_blocking::Get::key("x").count_only())
        .unwrap()
        .header()
        .revision
}

fn fill(client: &Client, prefix: &str, n: usize) {
    let all: Vec<Op> = (0..n)
        .map(|n| Put::new(format!("{prefix}{n:05}"), "v").into())
        .collect();
    for some in all.chunks(100) {
        client.txn(Txn::always(some.to_vec())).unwrap();
    }
}

// Case: MI-01
#[test]
fn existing_keys_are_copied_and_then_every_change() {
    let two = two();
    two.source.put("m/a", "1").unwrap();
    two.source.put("n/other", "1").unwrap();
    let copy = MakeMirror::new(&two.source, &two.destination)
        .prefix("m/")
        .start()
        .unwrap();
    copy.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(below(&two.destination, ""), keys([("m/a", "1")]));
    let lease = two.source.grant(Duration::from_secs(60)).unwrap().id();
    two.source.put("m/a", "2").unwrap();
    two.source
        .call(Put::new("m/leased", "x").lease(lease))
        .unwrap();
    two.source.put("m/gone", "x").unwrap();
    two.source.delete("m/gone").unwrap();
    copy.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(
        below(&two.destination, "m/"),
        keys([("a", "2"), ("leased", "x")])
    );
    assert_eq!(
        two.destination.get("m/leased").unwrap().unwrap().lease(),
        None
    );
    two.source.revoke(lease).unwrap();
    copy.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(below(&two.destination, "m/"), keys([("a", "2")]));
    let progress = copy.stop().unwrap();
    assert_eq!(
        (progress.puts(), progress.deletes(), progress.lists()),
        (4, 2, 1)
    );
}

// Case: MI-02
#[test]
fn two_thousand_keys_are_listed_in_pages_and_a_restart_in_the_middle_copies_the_rest_only() {
    let two = two();
    fill(&two.source, "m/", 2000);
    let make = MakeMirror::new(&two.source, &two.destination).prefix("m/");
    let copy = make.clone().start().unwrap();
    let progress = copy.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(progress.puts(), 2000);
    assert_eq!(below(&two.destination, "m/").len(), 2000);
    let stored = copy.stop().unwrap().revision();

    fill(&two.source, "m/later/", 500);
    two.source.call(Delete::prefix("m/000")).unwrap();
    let resumed = make.clone().resume_after(stored).start().unwrap();
    let progress = resumed.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(
        (progress.puts(), progress.deletes(), progress.lists()),
        (500, 100, 0)
    );
    assert_eq!(below(&two.source, "m/"), below(&two.destination, "m/"));
    resumed.stop().unwrap();

    // Without the stored revision it lists, and finds no difference.
    let again = make.start().unwrap();
    let progress = again.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(
        (progress.puts(), progress.deletes(), progress.lists()),
        (0, 0, 1)
    );
}

#[test]
fn one_revision_of_the_source_is_one_of_the_destination_and_every_version_is_copied() {
    let two = two();
    fill(&two.source, "m/many/", 500);
    let copy = MakeMirror::new(&two.source, &two.destination)
        .prefix("m/")
        .start()
        .unwrap();
    let begun = copy.wait_revision(now(&two.source), SOON).unwrap();
    assert_eq!(begun.puts(), 500);
    let seen = two
        .destination
        .watch(Watch::prefix("m/").start_revision(now(&two.destination).next()));
    let seen = seen.unwrap();
    for n in 0..50 {
        let n = n.to_string();
        let both = [Put::new("m/a", n.clone()), Put::new("m/b", n)];
        two.source.txn(Txn::always(both)).unwrap();
    }
    // One revision with more operations than a list of a transaction holds.
    two.source.call(Delete::prefix("m/many/")).unwrap();
    copy.wait_revision(now(&two.source), SOON).unwrap();
    let (mut versions, mut deleted) = (0, Vec::new());
    while deleted.is_empty() {
        let response = seen.recv_timeout(SOON).unwrap().unwrap();
        for events in response
            .events()
            .chunk_by(|a, b| a.revision() == b.revision())
        {
            if events[0].key().starts_with(b"m/many/") {
                deleted.push(events.len());
                continue;
            }
            let values: Vec<_> = events
                .iter()
                .map(|event| event.kv().value_str().unwrap())
                .collect();
            assert_eq!(
                values,
                [versions.to_string(), versions.to_string()],
                "together, in order"
            );
            versions += 1;
        }
    }
    assert_eq!((versions, deleted), (50, vec![500]));
}

#[test]
fn after_a_compaction_during_an_outage_the_exact_difference_is_copied() {
    let two = two();
    let proxy = Proxy::start(two.a.client_addr()).unwrap();
    let source = Client::connect([proxy.endpoint()]).unwrap();
    for key in ["m/kept", "m/changed", "m/gone"] {
        two.source.put(key, "before").unwrap();
    }
    let make = MakeMirror::new(&source, &two.destination)
        .prefix("m/")
        .dest_prefix("c/");
    let copy = make.clone().start().unwrap();
    copy.wait_revision(now(&two.source), SOON).unwrap();
    let kept = two.destination.get("c/kept").unwrap();
    proxy.cut();
    let disturb = |n: &'static str| {
        two.source.put("m/changed", n).unwrap();
        two.source.put(format!("m/new{n}"), n).unwrap();
        let last = two.source.put("m/last", n).unwrap().revision();
        two.source.compact(last).unwrap();
        last
    };
    two.source.delete("m/gone").unwrap();
    let last = disturb("1");
    proxy.restore();
    let progress = copy.wait_revision(last, SOON).unwrap();
    assert_eq!((progress.lists(), progress.deletes()), (2, 1));
    assert_eq!(below(&two.destination, "c/"), below(&two.source, "m/"));
    assert_eq!(
        two.destination.get("c/kept").unwrap(),
        kept,
        "what did not change is not written"
    );

    // A compaction between two runs has the same effect.
    let stored = copy.stop().unwrap().revision();
    two.source.delete("m/new1").unwrap();
    let last = disturb("2");
    let resumed = make.clone().resume_after(stored).start().unwrap();
    let progress = resumed.wait_revision(last, SOON).unwrap();
    assert_eq!((progress.lists(), progress.deletes()), (1, 1));
    assert_eq!(below(&two.destination, "c/"), below(&two.source, "m/"));
    let stored = resumed.stop().unwrap().revision();

    // With `Extraneous::Keep` the difference cannot be computed, so the copy ends with an error.
    disturb("3");
    let keeping = make
        .extraneous(Extraneous::Keep)
        .resume_after(stored)
        .start()
        .unwrap();
    let error = keeping.ended().recv_timeout(SOON).unwrap();
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
    assert!(
        error.to_string().starts_with("make mirror of \"m/\""),
        "{error}"
    );
    assert_eq!(keeping.stop().unwrap_err().kind(), ErrorKind::Compacted);
}

// Fault: W14
#[test]
fn a_wait_for_a_revision_of_a_new_store_does_not_end_with_the_copy_of_the_lost_one() {
    let mut two = two();
    // Each start begins a raft term: the next store has a lower one, which shows the loss.
    two.a.restart().unwrap();
    let proxies = [&two.a, &two.b].map(|etcd| Proxy::start(etcd.client_addr()).unwrap());
    let [source, destination] =
        [0, 1].map(|n: usize| Client::connect(proxies[n].endpoint()).unwrap());
    for n in 0..40 {
        source.put("m/lost", n.to_string()).unwrap();
    }
    let had = now(&source);
    let copy = MakeMirror::new(&source, &destination)
        .prefix("m/")
        .dest_prefix("c/")
        .start()
        .unwrap();
    copy.wait_revision(had, SOON).unwrap();
    proxies[0].cut();
    two.a.restart_wiped().unwrap();
    // So that the new list cannot be copied yet.
    proxies[1].cut();
    proxies[0].restore();
    let put = eventually(SOON, "a put", || source.put("m/kept", "x").ok());
    assert!(put.revision() < had);
    let early = copy.wait_revision(put.revision(), Duration::from_millis(300));
    assert_eq!(early.unwrap_err().kind(), ErrorKind::Timeout);
    proxies[1].restore();
    copy.wait_revision(put.revision(), SOON).unwrap();
    assert_eq!(below(&two.destination, "c/"), keys([("kept", "x")]));
}

#[test]
fn extraneous_keys_are_deleted_only_if_requested() {
    let two = two();
    two.source.put("m/a", "1").unwrap();
    two.destination.put("m/theirs", "x").unwrap();
    two.destination.put("other", "x").unwrap();
    let make = || MakeMirror::new(&two.source, &two.destination).prefix("m/");
    let refused = make().start().unwrap();
    let error = refused.ended().recv_timeout(SOON).unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
    assert!(error.to_string().contains("m/theirs"), "{error}");
    assert_eq!(
        below(&two.destination, "m/"),
        keys([("theirs", "x")]),
        "nothing is written"
    );

    let keeping = make().extraneous(Extraneous::Keep).start().unwrap();
    keeping.wait_revision(now(&two.source), SOON).unwrap();
    keeping.stop().unwrap();
    assert_eq!(
        below(&two.destination, "m/"),
        keys([("a", "1"), ("theirs", "x")])
    );

    let deleting = make().extraneous(Extraneous::Delete).start().unwrap();
    deleting.wait_revision(now(&two.source), SOON).unwrap();
    deleting.stop().unwrap();
    assert_eq!(
        below(&two.destination, ""),
        keys([("m/a", "1"), ("other", "x")])
    );
}

#[test]
fn a_copy_waits_for_an_unavailable_etcd_and_stops_at_once() {
    let mut two = two();
    two.b.stop().unwrap();
    let destination = Client::builder([two.b.endpoint()])
        .timeout(Duration::from_millis(500))
        .connect()
        .unwrap();
    two.source.put("m/a", "1").unwrap();
    let make = MakeMirror::new(&two.source, &destination).prefix("m/");
    let copy = make.clone().start().unwrap();
    eventually(SOON, "it says so", || copy.progress().stalled().map(drop));
    assert!(copy.stop().unwrap().revision() == Revision::NONE);

    let copy = make.start().unwrap();
    eventually(SOON, "it says so", || copy.progress().stalled().map(drop));
    two.b.restart().unwrap();
    copy.wait_revision(now(&two.source), SOON).unwrap();
    assert!(copy.progress().stalled().is_none());
    two.a.restart().unwrap();
    eventually(SOON, "the source is back", || {
        two.source.put("m/b", "2").ok()
    });
    copy.wait_revision(now(&two.source), SOON).unwrap();
    let stopped = eventually(SOON, "the destination answers", || {
        two.destination.get_prefix("m/").ok().map(|kvs| kvs.len())
    });
    assert_eq!(stopped, 2);
}

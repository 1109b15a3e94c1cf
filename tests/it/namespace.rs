//! Namespace views: every request and response with a key is rewritten.

use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::mirror::MirrorEvent;
use etcd_blocking::{
    Client, Compact, Compare, Delete, Discovery, ErrorKind, Event, EventKind, Get, Instance,
    KeyRange, KeyValue, OpResponse, Put, Registrar, TimeToLive, Txn, Watch, WatchResponse,
};

use crate::support::wait::{eventually, items};

mod recipes;

const SOON: Duration = Duration::from_secs(10);

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

fn names<'a>(kvs: impl IntoIterator<Item = &'a KeyValue>) -> Vec<String> {
    kvs.into_iter()
        .map(|kv| kv.key_lossy().into_owned())
        .collect()
}

fn keys(client: &Client, get: Get) -> Vec<String> {
    names(client.call(get).unwrap().kvs())
}

/// Keys before, in, and after the namespace `app/`.
fn fill(client: &Client) {
    for key in [
        "aaa", "app", "app/", "app/a", "app/b/1", "app/b/2", "app0", "zzz",
    ] {
        client.put(key, "v").unwrap();
    }
}

// Case: NS-01
#[test]
fn keys_are_sent_with_the_prefix_and_returned_without_it() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    app.put("k", "one").unwrap();
    assert_eq!(client.get("app/k").unwrap().unwrap().value(), "one");
    assert!(client.get("k").unwrap().is_none());
    client.put("k", "outside").unwrap();
    let kv = app.get("k").unwrap().unwrap();
    assert_eq!((kv.key(), kv.value_str()), (&"k".into(), Some("one")));
    let put = app.call(Put::new("k", "two").prev_kv()).unwrap();
    assert_eq!(put.prev_kv().unwrap().key(), "k");
    let pending = app.submit(Get::key("k"));
    assert_eq!(pending.wait().unwrap().first().unwrap().value(), "two");
    let gone = app.call(Delete::key("k").prev_kv()).unwrap();
    assert_eq!(
        (gone.deleted(), names(gone.prev_kvs())),
        (1, vec!["k".into()])
    );
    assert_eq!(client.get("k").unwrap().unwrap().value(), "outside");
    assert_eq!(
        app.with_timeout(SOON).get("k").unwrap(),
        None,
        "a view of a view"
    );
}

#[test]
fn every_range_ends_with_the_namespace() {
    let (_etcd, client) = start();
    fill(&client);
    let app = client.namespace("app/").unwrap();
    let all = ["a", "b/1", "b/2"];
    for get in [
        Get::prefix(""),
        Get::range(KeyRange::all()),
        Get::range(KeyRange::from_key("")),
        Get::range(KeyRange::from_key("a")),
    ] {
        assert_eq!(keys(&app, get.clone()), all, "{get:?}");
        assert_eq!(app.call(get).unwrap().count(), 3);
    }
    assert_eq!(keys(&app, Get::prefix("b/")), ["b/1", "b/2"]);
    assert_eq!(
        keys(&app, Get::range(KeyRange::range("a", "b/2"))),
        ["a", "b/1"]
    );
    assert_eq!(keys(&app, Get::last_by_create("")), ["b/2"]);
    let pages = app.pages(Get::prefix(""), 1).unwrap();
    let paged: Vec<_> = pages.flat_map(|page| names(&page.unwrap())).collect();
    assert_eq!(paged, all);

    let last = client.namespace("\u{0}").unwrap();
    last.put("k", "v").unwrap();
    assert_eq!(keys(&last, Get::range(KeyRange::all())), ["k"]);
    let last = client.namespace(vec![0xff, 0xff]).unwrap();
    last.put("k", "v").unwrap();
    assert_eq!(keys(&last, Get::range(KeyRange::all())), ["k"]);

    let gone = app.call(Delete::range(KeyRange::all())).unwrap();
    assert_eq!(gone.deleted(), 3);
    let left = ["\0k", "aaa", "app", "app/", "app0", "zzz"];
    let outside = KeyRange::range("\0", vec![0xff]);
    assert_eq!(keys(&client, Get::range(outside)), left);
}

#[test]
fn pages_in_a_namespace_are_streamed() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    let keys: Vec<String> = (0..2_000).map(|n| format!("{n:04}")).collect();
    for keys in keys.chunks(100) {
        let puts = keys.iter().map(|key| Put::new(key.clone(), "v"));
        app.txn(Txn::always(puts)).unwrap();
    }
    client.put("app0", "outside").unwrap();
    let pages = app.pages(Get::prefix(""), 150).unwrap();
    let paged: Vec<_> = pages.flat_map(|page| names(&page.unwrap())).collect();
    assert!(paged == keys);
    let mirror = app.mirror(KeyRange::all()).unwrap();
    assert!(names(mirror.snapshot().iter()) == keys);
}

// Case: NS-04
#[test]
fn an_empty_key_is_refused_in_a_namespace() {
    let (_etcd, client) = start();
    client.put("app/", "not a key of the namespace").unwrap();
    let app = client.namespace("app/").unwrap();
    let invalid = |error: etcd_blocking::Error| {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_eq!(error.attempts(), 0, "{error}");
    };
    invalid(app.get("").unwrap_err());
    invalid(app.put("", "v").unwrap_err());
    invalid(app.delete("").unwrap_err());
    invalid(app.call(Delete::prefix("")).unwrap_err());
    invalid(app.watch("").unwrap_err());
    invalid(app.watch_set().unwrap().add("").unwrap_err());
    invalid(app.txn(Txn::when([Compare::exists("")])).unwrap_err());
    invalid(app.txn(Txn::always([Put::new("", "v")])).unwrap_err());
    invalid(app.namespace("").unwrap_err());
    invalid(client.namespace("").unwrap_err());
    assert!(app.get_prefix("").unwrap().is_empty());
}

// Case: NS-02
#[test]
fn watches_in_a_namespace_report_keys_without_the_prefix() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    let all = app.watch(Watch::range(KeyRange::all()).prev_kv()).unwrap();
    let one = app.watch("k").unwrap();
    let set = app.watch_set().unwrap();
    let in_set = set.add(Watch::prefix("k")).unwrap();
    // The watch has a start revision, because the test does not wait until it is created.
    let next = client.put("k", "outside").unwrap().revision().next();
    let from_there = Watch::key("k").start_revision(next);
    let submitted = set.submit(from_there).unwrap();
    client.put("app/", "outside").unwrap();
    client.put("app0", "outside").unwrap();
    app.put("k", "one").unwrap();
    client.put("app/k", "two").unwrap();
    let last = app.delete("k").unwrap().revision();
    let expected = [EventKind::Put, EventKind::Put, EventKind::Delete];
    let collect = |next: &dyn Fn() -> WatchResponse| {
        let mut events: Vec<Event> = Vec::new();
        while events.len() < expected.len() {
            events.extend(next().into_events());
        }
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        assert_eq!(kinds, expected);
        assert!(events.iter().all(|event| event.key() == "k"));
        assert_eq!(events[2].revision(), last);
        events
    };
    let events = collect(&|| all.recv_timeout(SOON).unwrap().unwrap());
    let prev = events[2].prev_kv().unwrap();
    assert_eq!((prev.key(), prev.value_str()), (&"k".into(), Some("two")));
    collect(&|| one.recv_timeout(SOON).unwrap().unwrap());
    let (mut of_added, mut of_submitted) = (Vec::new(), Vec::new());
    let mut received = items(set.receiver(), SOON);
    while of_added.len() < 3 || of_submitted.len() < 3 {
        let (of, item) = received.next().unwrap();
        let events = match of == in_set {
            true => &mut of_added,
            false => &mut of_submitted,
        };
        assert!(of == in_set || of == submitted);
        events.extend(item.unwrap().into_events());
    }
    for events in [of_added, of_submitted] {
        assert!(events.iter().map(|event| event.key().clone()).eq(["k"; 3]));
    }
}

// Case: NS-05
#[test]
fn all_parts_of_a_transaction_are_moved_into_the_namespace() {
    let (_etcd, client) = start();
    fill(&client);
    let app = client.namespace("app/").unwrap();
    // Without the prefix there is no such key.
    let missing = Compare::missing(KeyRange::from_key("c"));
    let inner = Txn::when([Compare::value("a").eq("v"), missing])
        .then([Get::prefix("b/")])
        .or_else([Get::key("never")]);
    let txn = Txn::when([
        Compare::exists("a"),
        Compare::version(KeyRange::all()).eq(1),
    ])
    .then([inner])
    .then([Put::new("new", "v").prev_kv(), Put::new("a", "2").prev_kv()])
    .then([Delete::key("b/1").prev_kv()])
    .or_else([Get::key("never")]);
    let done = app.txn(txn).unwrap();
    assert!(done.succeeded());
    let [
        OpResponse::Txn(inner),
        OpResponse::Put(new),
        OpResponse::Put(again),
        OpResponse::Delete(gone),
    ] = done.responses()
    else {
        panic!("{done:?}");
    };
    assert!(inner.succeeded() && names(inner.get(0).unwrap().kvs()) == ["b/1", "b/2"]);
    assert!(new.prev_kv().is_none());
    assert_eq!(again.prev_kv().unwrap().key(), "a");
    assert_eq!(names(gone.prev_kvs()), ["b/1"]);
    assert_eq!(
        keys(&client, Get::prefix("app/")),
        ["app/", "app/a", "app/b/2", "app/new"]
    );
    assert_eq!(client.get("aaa").unwrap().unwrap().version(), 1);
}

// Case: NS-06
#[test]
fn time_to_live_in_a_namespace_returns_the_keys_of_the_namespace() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    let lease = app.grant(Duration::from_secs(60)).unwrap().id();
    app.call(Put::new("k", "v").lease(lease)).unwrap();
    client.call(Put::new("outside", "v").lease(lease)).unwrap();
    let of = |client: &Client| -> Vec<_> {
        let lives = client.call(TimeToLive::new(lease).keys()).unwrap();
        // etcd lists them without an order.
        let mut keys = lives.keys().to_vec();
        keys.sort();
        keys
    };
    assert_eq!(of(&app), ["k"]);
    assert_eq!(of(&client), ["app/k", "outside"]);
    assert!(app.leases().unwrap().ids().contains(&lease));
    let alive = app.keep_alive(lease).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    app.keep_alive_once(lease).unwrap();
    app.revoke(lease).unwrap();
    assert!(app.get("k").unwrap().is_none());
}

#[test]
fn namespaces_nest_and_share_the_client() {
    let (_etcd, client) = start();
    let a = client.namespace("a/").unwrap();
    let ab = a.namespace("b/").unwrap();
    ab.put("k", "v").unwrap();
    assert_eq!(keys(&client, Get::prefix("a/")), ["a/b/k"]);
    assert_eq!(keys(&a, Get::prefix("")), ["b/k"]);
    assert_eq!(keys(&ab, Get::prefix("")), ["k"]);
    assert_eq!(ab.id(), client.id());
    // Revisions are those of the store.
    let now = ab.call(Get::key("k")).unwrap().header().revision;
    let later = client.put("k", "v").unwrap().revision();
    assert_eq!(later, now.next());
    ab.call(Compact::at(later)).unwrap();
    ab.close().unwrap();
    assert_eq!(client.get("k").unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn errors_contain_keys_as_the_caller_wrote_them() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    let missing = app.call(Put::keep_value("k")).unwrap_err();
    assert!(missing.to_string().starts_with("put \"k\": "), "{missing}");
    let pending = app.submit(Put::keep_value("k")).wait().unwrap_err();
    assert_eq!(pending.kind(), ErrorKind::NotFound);
    assert!(pending.to_string().starts_with("put \"k\": "), "{pending}");
    let first = app.put("k", "v").unwrap().revision();
    let now = app.put("k", "v").unwrap().revision();
    app.compact(now).unwrap();
    let old = app.call(Get::prefix("k").revision(first)).unwrap_err();
    assert!(old.to_string().starts_with("get \"k\"..\"l\": "), "{old}");
    let watcher = app.watch(Watch::key("k").start_revision(first)).unwrap();
    let last = watcher.recv_timeout(SOON).unwrap().unwrap_err();
    assert!(last.to_string().starts_with("watch \"k\": "), "{last}");
    app.clone().close().unwrap();
    let closed = app.get("k").unwrap_err();
    assert!(closed.to_string().starts_with("get \"k\": "), "{closed}");
    assert!(format!("{app:?}").contains("app/"));
}

#[test]
fn a_mirror_of_a_namespace_has_its_keys_and_their_changes() {
    let (_etcd, client) = start();
    fill(&client);
    let app = client.namespace("app/").unwrap();
    let mirror = app.mirror(KeyRange::all()).unwrap();
    let first = mirror.changes().recv_timeout(SOON).unwrap().unwrap();
    assert!(matches!(first, MirrorEvent::Reset { .. }), "{first:?}");
    assert_eq!(names(mirror.snapshot().iter()), ["a", "b/1", "b/2"]);
    assert_eq!(mirror.keys(), &KeyRange::all());
    app.delete("b/1").unwrap();
    client.put("app0", "outside").unwrap();
    let last = app.put("c", "v").unwrap().revision();
    let seen = mirror.wait_revision(last, SOON).unwrap();
    assert_eq!(names(seen.iter()), ["a", "b/2", "c"]);
    let mut changed: Vec<String> = Vec::new();
    while changed.last().is_none_or(|key| key != "c") {
        let event = mirror.changes().recv_timeout(SOON).unwrap().unwrap();
        if let MirrorEvent::Changed { changes, .. } = event {
            changed.extend(
                changes
                    .iter()
                    .map(|c| String::from_utf8_lossy(c.key()).into_owned()),
            );
        }
    }
    assert_eq!(changed, ["b/1", "c"]);
}

/// The worker of a client serves the views of all its namespaces; each view has its own keys.
#[test]
fn services_of_a_namespace_and_of_its_client_are_separate() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    let register = |client: &Client, n: u16| {
        let registrar = Registrar::builder(client).start().unwrap();
        let instance = Instance::new("web", format!("127.0.1.1:{n}")).id(format!("i{n}"));
        let registration = registrar.register(instance).unwrap();
        (registrar, registration)
    };
    let (_inside, registered) = register(&app, 1);
    let (_outside, _other) = register(&client, 2);
    let (views, plain) = (
        Discovery::new(&app).service("web").unwrap(),
        Discovery::new(&client).service("web").unwrap(),
    );
    let ids = |view: &etcd_blocking::ServiceView| -> Vec<String> {
        view.snapshot().iter().map(|i| i.id.clone()).collect()
    };
    eventually(SOON, "each sees its own", || {
        (ids(&views) == ["i1"] && ids(&plain) == ["i2"]).then_some(())
    });
    let all = keys(&client, Get::prefix(""));
    assert_eq!(
        all.iter().filter(|key| key.starts_with("app/")).count(),
        1,
        "{all:?}"
    );
    assert_eq!(all.len(), 2, "{all:?}");
    // After a deletion, the key is restored at the same place.
    let key = all.iter().find(|key| key.starts_with("app/")).unwrap();
    client.delete(key.clone()).unwrap();
    eventually(SOON, "registered again", || {
        client.get(key.clone()).unwrap()
    });
    drop(registered);
    eventually(SOON, "left", || ids(&views).is_empty().then_some(()));
    assert_eq!(ids(&plain), ["i2"]);
}

#[test]
fn requests_without_keys_work_in_a_namespace() {
    let (_etcd, client) = start();
    let app = client.namespace("app/").unwrap();
    assert_eq!(app.cluster().member_list().unwrap().members().len(), 1);
    let lease = app.grant(Duration::from_secs(60)).unwrap();
    let alive = app.keep_alive(lease.id()).unwrap();
    assert!(alive.receiver().recv_timeout(SOON).unwrap().is_ok());
    app.revoke(lease.id()).unwrap();
}

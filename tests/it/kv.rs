//! Every option of every request about keys, on a real etcd.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use etcd_blocking::kv::{SortOrder, SortTarget};
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{
    Client, Compact, Compare, Delete, ErrorKind, Get, GetResponse, KeyRange, LeaseId, Put,
    Revision, Txn,
};

use crate::support::proxy::Proxy;
use crate::support::wait::Raise;

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

/// The kind of an error, after a look at what every error promises.
#[track_caller]
fn kind<T: std::fmt::Debug>(operation: &str, result: etcd_blocking::Result<T>) -> ErrorKind {
    let error = result.unwrap_err();
    assert!(error.to_string().starts_with(operation), "{error}");
    assert!(
        !error.outcome_unknown(),
        "refused, so not executed: {error}"
    );
    error.kind()
}

fn keys(response: &GetResponse) -> Vec<String> {
    response
        .kvs()
        .iter()
        .map(|kv| kv.key_lossy().into_owned())
        .collect()
}

#[test]
fn a_key_is_put_read_and_deleted() {
    let (_etcd, client) = start();
    assert!(client.get("k").unwrap().is_none());
    let put = client.put("k", "one").unwrap();
    assert_eq!(put.revision().get(), 2);
    assert!(put.prev_kv().is_none());
    let kv = client.get("k").unwrap().unwrap();
    assert_eq!(
        (kv.key(), kv.value_str(), kv.version()),
        (&"k".into(), Some("one"), 1)
    );
    assert_eq!(
        (kv.create_revision(), kv.mod_revision()),
        (put.revision(), put.revision())
    );
    assert_eq!(kv.lease(), None);

    let again = client.call(Put::new("k", "two").prev_kv()).unwrap();
    assert_eq!(again.prev_kv().unwrap(), &kv);
    let kv = client.get("k").unwrap().unwrap();
    assert_eq!(
        (kv.create_revision(), kv.mod_revision()),
        (put.revision(), again.revision())
    );
    assert_eq!(kv.version(), 2);
    assert_eq!(client.delete("k").unwrap().deleted(), 1);
    assert_eq!(client.delete("k").unwrap().deleted(), 0);
}

// Case: KV-14
#[test]
fn empty_values_and_binary_keys_are_values_and_keys() {
    let (_etcd, client) = start();
    client.put("empty", "").unwrap();
    assert_eq!(client.get("empty").unwrap().unwrap().value().len(), 0);
    let (key, value) = (vec![0u8, 255, 10], vec![255u8; 300]);
    client.put(key.clone(), value.clone()).unwrap();
    let kv = client.get(key.clone()).unwrap().unwrap();
    assert_eq!(
        (kv.key().as_ref(), kv.value().as_ref()),
        (&key[..], &value[..])
    );
    assert_eq!(kv.value_str(), None);
}

// Case: KV-01
// Case: KV-31
#[test]
fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    // What clientv3 refuses at run time mostly does not compile here.
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr());
    let client = Client::connect([proxy.endpoint()]).unwrap();
    let invalid = ErrorKind::InvalidArgument;
    assert_eq!(kind("put", client.put("", "v")), invalid);
    assert_eq!(kind("get", client.get("")), invalid);
    assert_eq!(kind("delete", client.delete("")), invalid);
    assert_eq!(
        kind("delete", client.call(Delete::prefix(""))),
        invalid,
        "not every key by accident"
    );
    assert_eq!(
        kind("get", client.call(Get::range(KeyRange::range("b", "a")))),
        invalid
    );
    assert_eq!(
        kind(
            "get",
            client.call(Get::key("a").revision(Revision::new(-1)))
        ),
        invalid
    );
    assert_eq!(
        kind(
            "put",
            client.call(Put::new("k", "v").keep_lease().lease(lease(1)))
        ),
        invalid
    );
    let (low, high) = (Revision::new(3), Revision::new(4));
    for get in [
        Get::prefix("a")
            .min_mod_revision(high)
            .max_mod_revision(low),
        Get::prefix("a")
            .min_create_revision(high)
            .max_create_revision(low),
        Get::prefix("a").min_mod_revision(Revision::new(-1)),
    ] {
        assert_eq!(kind("get", client.call(get)), invalid);
    }
    assert_eq!(kind("compact", client.compact(Revision::NONE)), invalid);
    assert_eq!(
        kind("txn", client.txn(Txn::always([Put::new("", "v")]))),
        invalid
    );
    let submitted = client.submit(Put::new("", "v"));
    assert_eq!(kind("put", submitted.wait()), invalid);
    for get in [
        Get::prefix("a").limit(1),
        Get::prefix("a").sort(SortTarget::Key, SortOrder::Descend),
    ] {
        assert_eq!(client.pages(get, 10).unwrap_err().kind(), invalid);
    }
    assert_eq!(
        client.pages(Get::prefix("a"), 0).unwrap_err().kind(),
        invalid
    );
    assert_eq!(proxy.connections(), 0);
}

fn lease(id: i64) -> LeaseId {
    LeaseId::new(id).unwrap()
}

// Case: KV-06
// Case: KV-07
// Case: KV-09
#[test]
fn a_put_hangs_a_key_on_a_lease_keeps_it_there_or_takes_it_off() {
    let (_etcd, client) = start();
    let id = client.grant(Duration::from_secs(60)).unwrap().id();
    let lease_of = |key: &'static str| client.get(key).unwrap().unwrap().lease();
    assert_eq!(
        kind("put", client.call(Put::new("k", "v").lease(lease(77)))),
        ErrorKind::LeaseNotFound
    );
    assert_eq!(
        kind("put", client.call(Put::new("k", "v").keep_lease())),
        ErrorKind::NotFound
    );
    client.call(Put::new("k", "v").lease(id)).unwrap();
    assert_eq!(lease_of("k"), Some(id));
    client.call(Put::new("k", "kept").keep_lease()).unwrap();
    assert_eq!(lease_of("k"), Some(id));
    assert_eq!(client.get("k").unwrap().unwrap().value(), "kept");
    client.put("k", "v").unwrap();
    assert_eq!(lease_of("k"), None);
}

#[test]
fn a_put_can_keep_the_value() {
    let (_etcd, client) = start();
    assert_eq!(
        kind("put", client.call(Put::keep_value("k"))),
        ErrorKind::NotFound
    );
    let id = client.grant(Duration::from_secs(60)).unwrap().id();
    client.put("k", "v").unwrap();
    let put = client
        .call(Put::keep_value("k").lease(id).prev_kv())
        .unwrap();
    assert_eq!(put.prev_kv().unwrap().value(), "v");
    let kv = client.get("k").unwrap().unwrap();
    assert_eq!(
        (kv.value_str(), kv.version(), kv.lease()),
        (Some("v"), 2, Some(id))
    );
    client.call(Put::keep_value("k").keep_lease()).unwrap();
    assert_eq!(client.get("k").unwrap().unwrap().lease(), Some(id));
}

// Case: KV-02
// Case: KV-04
#[test]
fn sizes_are_limited_by_the_server_and_before_that_by_the_client() {
    let etcd = LocalEtcd::builder()
        .arg("--max-request-bytes=7864320")
        .start()
        .unwrap();
    let client = Client::builder([etcd.endpoint()])
        .send_limit(16 << 20)
        .connect()
        .unwrap();
    client.put("large", vec![7u8; 5 << 20]).unwrap();
    assert_eq!(client.get("large").unwrap().unwrap().value().len(), 5 << 20);
    // Over etcd's limit, and over grpc-go's, which is half a MiB above it.
    for size in [7_864_400, 9 << 20] {
        let refused = client.put("too large", vec![7u8; size]);
        assert_eq!(kind("put", refused), ErrorKind::TooLarge);
    }
    assert!(client.get("too large").unwrap().is_none());
}

// Case: KV-03
#[test]
fn a_request_over_the_send_limit_is_refused_before_anything_is_sent() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr());
    let client = Client::builder([proxy.endpoint()])
        .send_limit(1000)
        .connect()
        .unwrap();
    let large = || Put::new("k", vec![0u8; 1000]);
    let error = client.call(large()).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::TooLarge, 0));
    assert!(error.to_string().contains("send_limit"), "{error}");
    assert_eq!(
        kind("put \"k\"", client.submit(large()).wait()),
        ErrorKind::TooLarge
    );
    assert_eq!(
        kind("txn", client.txn(Txn::always([large()]))),
        ErrorKind::TooLarge
    );
    assert_eq!(proxy.connections(), 0);
    client.call(Put::new("k", vec![0u8; 990])).unwrap();
}

#[test]
fn a_reply_over_the_receive_limit_harms_nothing_else() {
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr());
    let client = Client::builder([proxy.endpoint()])
        .receive_limit(1 << 20)
        .connect()
        .unwrap();
    for n in 0..8 {
        client
            .put(format!("large/{n}"), vec![0u8; 512 << 10])
            .unwrap();
    }
    let stop = AtomicBool::new(false);
    let others = thread::scope(|scope| {
        let done = Raise(&stop);
        let others: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = 0;
                    while !stop.load(Ordering::SeqCst) {
                        client.get("large/0").unwrap().unwrap();
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for _ in 0..20 {
            let error = client.get_prefix("large/").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
            assert!(error.to_string().contains("1048576"), "{error}");
            assert!(
                error.endpoint().is_some_and(|e| e == proxy.endpoint()),
                "{error}"
            );
        }
        drop(done);
        others
            .into_iter()
            .map(|t| t.join().unwrap())
            .collect::<Vec<u32>>()
    });
    assert!(others.iter().all(|calls| *calls > 0), "{others:?}");
    assert_eq!(
        proxy.connections(),
        2,
        "one for calls, one for ranges, and nobody lost his"
    );
    // A deletion is executed before its reply is seen to be too large.
    let error = client.call(Delete::prefix("large/").prev_kv()).unwrap_err();
    assert!(
        error.kind() == ErrorKind::TooLarge && error.outcome_unknown(),
        "{error}"
    );
    assert_eq!(
        client
            .call(Get::prefix("large/").count_only())
            .unwrap()
            .count(),
        0
    );
}

// Case: KV-11
// Case: KV-12
#[test]
fn ranges_are_prefixes_intervals_from_keys_and_everything() {
    let (_etcd, client) = start();
    for key in ["a", "b", "c", "c", "c", "foo", "foo/abc", "fop"] {
        client.put(key, "v").unwrap();
    }
    let read = |range: KeyRange| keys(&client.call(Get::range(range)).unwrap());
    assert_eq!(
        read(KeyRange::all()),
        ["a", "b", "c", "foo", "foo/abc", "fop"]
    );
    assert_eq!(read(KeyRange::range("a", "c")), ["a", "b"]);
    assert_eq!(read(KeyRange::prefix("foo")), ["foo", "foo/abc"]);
    assert_eq!(read(KeyRange::prefix("")).len(), 6);
    assert_eq!(read(KeyRange::from_key("foo/")), ["foo/abc", "fop"]);
    assert_eq!(read(KeyRange::key("fo")), Vec::<String>::new());
    let all = client.call(Get::range(KeyRange::all())).unwrap();
    let c = &all.kvs()[2];
    assert_eq!(
        (
            c.create_revision().get(),
            c.mod_revision().get(),
            c.version()
        ),
        (4, 6, 3)
    );
    assert_eq!(client.get_prefix("foo").unwrap().len(), 2);
}

// Case: KV-12
// Case: KV-13
#[test]
fn limits_counts_and_projections() {
    let (_etcd, client) = start();
    for key in ["a", "b", "c"] {
        client.put(key, "value").unwrap();
    }
    let all = || Get::range(KeyRange::all());
    let some = client.call(all().limit(2)).unwrap();
    assert_eq!((keys(&some).len(), some.more(), some.count()), (2, true, 3));
    for limit in [0, 3, 4] {
        let every = client.call(all().limit(limit)).unwrap();
        assert_eq!(
            (keys(&every).len(), every.more(), every.count()),
            (3, false, 3)
        );
    }
    let names = client.call(all().keys_only()).unwrap();
    assert_eq!(keys(&names), ["a", "b", "c"]);
    assert!(
        names
            .kvs()
            .iter()
            .all(|kv| kv.value().is_empty() && kv.version() == 1)
    );
    for get in [all().count_only(), all().count_only().keys_only()] {
        let count = client.call(get).unwrap();
        assert_eq!((count.count(), count.kvs().len()), (3, 0));
        assert_eq!(count.header(), names.header());
    }
    assert_eq!(client.call(all().serializable()).unwrap().count(), 3);
}

// Case: KV-12
// Case: KV-32
#[test]
fn every_order_by_every_target() {
    let (_etcd, client) = start();
    // Created in the order c a b, changed last in the order b c a; values run against the keys.
    for (key, value) in [
        ("c", "1"),
        ("a", "x"),
        ("b", "2"),
        ("c", "1"),
        ("a", "x"),
        ("a", "3"),
    ] {
        client.put(key, value).unwrap();
    }
    let cases = [
        (SortTarget::Key, ["a", "b", "c"]),
        (SortTarget::Version, ["b", "c", "a"]),
        (SortTarget::CreateRevision, ["c", "a", "b"]),
        (SortTarget::ModRevision, ["b", "c", "a"]),
        (SortTarget::Value, ["c", "b", "a"]),
    ];
    for (target, mut expected) in cases {
        for order in [SortOrder::Ascend, SortOrder::Descend] {
            let sorted = client
                .call(Get::range(KeyRange::all()).sort(target, order))
                .unwrap();
            assert_eq!(keys(&sorted), expected, "{target:?} {order:?}");
            let first = client
                .call(Get::range(KeyRange::all()).sort(target, order).limit(1))
                .unwrap();
            assert_eq!(
                (keys(&first)[0].as_str(), first.more()),
                (expected[0], true)
            );
            expected.reverse();
        }
    }
}

// Case: KV-12
#[test]
fn reads_of_the_past_and_filters_by_revision() {
    let (_etcd, client) = start();
    let a = client.put("a", "1").unwrap().revision();
    let b = client.put("b", "1").unwrap().revision();
    let a2 = client.put("a", "2").unwrap().revision();
    let all = || Get::range(KeyRange::all());
    let read = |get: Get| keys(&client.call(get).unwrap());
    assert_eq!(read(all().revision(a)), ["a"]);
    let past = client.call(Get::key("a").revision(b)).unwrap();
    assert_eq!(past.first().unwrap().value(), "1");
    assert_eq!(
        past.header().revision,
        a2,
        "the header is that of the present"
    );
    assert_eq!(
        kind("get", client.call(all().revision(a2.next()))),
        ErrorKind::FutureRevision
    );
    assert_eq!(read(all().min_mod_revision(a2)), ["a"]);
    assert_eq!(read(all().max_mod_revision(b)), ["b"]);
    assert_eq!(read(all().min_create_revision(b)), ["b"]);
    assert_eq!(read(all().max_create_revision(a)), ["a"]);
    let none = client.call(all().min_mod_revision(a2.next())).unwrap();
    assert_eq!((none.kvs().len(), none.count()), (0, 2));
}

// Case: KV-15
#[test]
fn deletions_count_and_return_what_they_removed() {
    let (_etcd, client) = start();
    let refill = || {
        for key in ["a", "b", "c", "c/1", "d"] {
            client.put(key, key).unwrap();
        }
    };
    let left = || keys(&client.call(Get::range(KeyRange::all())).unwrap());
    refill();
    let gone = client.call(Delete::key("c").prev_kv()).unwrap();
    assert_eq!(
        (gone.deleted(), gone.prev_kvs()[0].value_str()),
        (1, Some("c"))
    );
    assert_eq!(left(), ["a", "b", "c/1", "d"]);
    refill();
    let gone = client.call(Delete::prefix("c")).unwrap();
    assert_eq!((gone.deleted(), gone.prev_kvs().len()), (2, 0));
    assert!(gone.revision() > Revision::NONE);
    refill();
    assert_eq!(
        client
            .call(Delete::range(KeyRange::range("a", "c")))
            .unwrap()
            .deleted(),
        2
    );
    assert_eq!(left(), ["c", "c/1", "d"]);
    assert_eq!(
        client
            .call(Delete::range(KeyRange::from_key("c/")))
            .unwrap()
            .deleted(),
        2
    );
    let before = client
        .call(Delete::range(KeyRange::all()).prev_kv())
        .unwrap();
    assert_eq!((before.deleted(), before.prev_kvs().len()), (1, 1));
    let nothing = client.call(Delete::range(KeyRange::all())).unwrap();
    assert_eq!(
        (nothing.deleted(), nothing.revision()),
        (0, before.revision())
    );
}

// Case: KV-16
#[test]
fn compaction_forgets_what_came_before() {
    let (_etcd, client) = start();
    let old = client.put("k", "1").unwrap().revision();
    let new = client.put("k", "2").unwrap().revision();
    assert!(client.compact(new).unwrap().header().revision >= new);
    assert_eq!(
        kind("compact at", client.compact(new)),
        ErrorKind::Compacted
    );
    assert_eq!(
        kind("compact at", client.compact(Revision::new(1000))),
        ErrorKind::FutureRevision
    );
    assert_eq!(
        kind("get", client.call(Get::key("k").revision(old))),
        ErrorKind::Compacted
    );
    assert_eq!(
        client
            .call(Get::key("k").revision(new))
            .unwrap()
            .first()
            .unwrap()
            .value(),
        "2"
    );
    let newer = client.put("k", "3").unwrap().revision();
    client.call(Compact::at(newer).physical()).unwrap();
}

#[test]
fn the_first_and_the_last_by_key_by_creation_and_by_change() {
    let (_etcd, client) = start();
    // Created in the order c a b, changed last in the order b c a.
    for key in ["c", "a", "b", "c", "a"] {
        client.put(format!("r/{key}"), "v").unwrap();
    }
    client.put("q", "before").unwrap();
    client.put("s", "after").unwrap();
    let one = |get: Get| keys(&client.call(get).unwrap());
    assert_eq!(one(Get::first_by_key("r/")), ["r/a"]);
    assert_eq!(one(Get::last_by_key("r/")), ["r/c"]);
    assert_eq!(one(Get::first_by_create("r/")), ["r/c"]);
    assert_eq!(one(Get::last_by_create("r/")), ["r/b"]);
    assert_eq!(one(Get::first_by_mod("r/")), ["r/b"]);
    assert_eq!(one(Get::last_by_mod("r/")), ["r/a"]);
    assert_eq!(one(Get::last_by_mod("")), ["s"]);
    assert!(one(Get::first_by_key("none/")).is_empty());
}

#[test]
fn keys_and_values_may_be_borrowed() {
    let (_etcd, client) = start();
    let (key, value) = (String::from("k"), vec![1, 2, 3]);
    client.put(&key, &value).unwrap();
    let found = client.get(&key).unwrap().unwrap();
    assert_eq!(found.value(), &value);
    let guard = Compare::value(&key).eq(&value);
    let then = Put::new(found.key(), &key[..]);
    assert!(
        client
            .txn(Txn::when([guard]).then([then]))
            .unwrap()
            .succeeded()
    );
    let page = client.call(Get::prefix(&key[..]).limit(1)).unwrap();
    assert_eq!(page.kvs()[0].value(), &key);
    assert_eq!(client.call(Delete::key(b"k")).unwrap().deleted(), 1);
}

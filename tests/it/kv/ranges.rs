//! Reads of ranges: bounds, limits, order, revisions.

use super::*;

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
fn gets_support_limits_counts_and_projections() {
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
fn gets_sort_by_every_target_in_every_order() {
    let (_etcd, client) = start();
    // Created in the order c a b, changed last in the order b c a; values in the reverse order of the keys.
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
fn gets_support_past_revisions_and_revision_filters() {
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

#[test]
fn gets_return_the_first_or_last_key_by_name_creation_or_modification() {
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

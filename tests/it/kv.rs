//! Requests about keys, with every option.

mod ranges;
mod sizes;

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

/// The kind of an error, after a check of the guarantees of every error.
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
fn empty_values_and_binary_keys_are_supported() {
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
fn invalid_options_are_refused_before_anything_is_sent() {
    // Most options that clientv3 refuses at run time do not compile here.
    let etcd = LocalEtcd::start().unwrap();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
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
fn a_put_attaches_a_key_to_a_lease_keeps_it_attached_or_detaches_it() {
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
fn a_put_can_keep_the_existing_value() {
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
fn compaction_removes_older_revisions() {
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

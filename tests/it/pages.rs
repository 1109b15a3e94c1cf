//! Large ranges, read in pages at one revision.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Get, KeyRange, KeyValue, Pages, Put, Revision, Txn};

use crate::support::child::alone;
use crate::support::proxy::Proxy;
use crate::support::wait::{Raise, eventually, peak_rss_kib, reset_peak_rss};

const SOON: Duration = Duration::from_secs(30);

fn start() -> (LocalEtcd, Client) {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    (etcd, client)
}

/// `count` keys `prefix0000`, `prefix0001`, ... written a hundred to a transaction.
fn fill(client: &Client, prefix: &str, count: usize) {
    let names: Vec<_> = (0..count).map(|n| format!("{prefix}{n:05}")).collect();
    let pending: Vec<_> = names
        .chunks(100)
        .map(|names| client.submit(Txn::always(names.iter().map(|k| Put::new(k.clone(), "v")))))
        .collect();
    for txn in pending {
        assert!(txn.wait().unwrap().succeeded());
    }
}

/// The sum of a metric of the server about range streams, and its version.
fn metric(etcd: &LocalEtcd, name: &str) -> (i64, String) {
    let mut stream = TcpStream::connect(etcd.client_addr()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let of_streams = |line: &&str| line.starts_with(name) && line.contains("\"RangeStream\"");
    let counts = text.lines().filter(of_streams);
    let sum: f64 = counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    let version = text.lines().find_map(|line| {
        line.strip_prefix("etcd_server_version{server_version=\"")?
            .split('"')
            .next()
    });
    (sum as i64, version.unwrap().to_owned())
}

/// The number of range streams that the server has begun; `None` if it does not support them.
fn streams(etcd: &LocalEtcd) -> Option<i64> {
    let (begun, version) = metric(etcd, "grpc_server_started_total");
    let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    ((numbers.next(), numbers.next()) >= (Some(3), Some(7))).then_some(begun)
}

/// The number of range streams that have not ended.
fn streams_open(etcd: &LocalEtcd) -> i64 {
    let of = |name| metric(etcd, name).0;
    of("grpc_server_started_total") - of("grpc_server_handled_total")
}

/// Puts `count` keys with values of `size` bytes, with as many keys per transaction as fit.
fn fill_with(client: &Client, prefix: &str, count: usize, size: usize) {
    let together = (1_000_000 / size).clamp(1, 100);
    let names: Vec<_> = (0..count).map(|n| format!("{prefix}{n:07}")).collect();
    for names in names.chunks(together * 8) {
        let puts = |names: &[String]| {
            let puts = names.iter().map(|k| Put::new(k.clone(), vec![b'v'; size]));
            client.submit(Txn::always(puts))
        };
        let pending: Vec<_> = names.chunks(together).map(puts).collect();
        for txn in pending {
            assert!(txn.wait().unwrap().succeeded());
        }
    }
}

/// Returns all keys, and checks that every page but the last is full, and none is empty.
fn collect(pages: &mut Pages, size: usize) -> Vec<KeyValue> {
    let mut read: Vec<KeyValue> = Vec::new();
    for page in pages {
        let page = page.unwrap();
        assert!(!page.is_empty() && page.len() <= size);
        assert!(
            read.len().is_multiple_of(size),
            "a page before was not full"
        );
        read.extend(page);
    }
    read
}

// Case: KV-18
#[test]
fn pages_have_one_revision_during_concurrent_writes() {
    let (_etcd, client) = start();
    fill(&client, "p/", 10_000);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = Raise(&stop);
        let writer = scope.spawn(|| {
            let mut writes = 0;
            while !stop.load(Ordering::SeqCst) {
                client
                    .put(format!("p/{:05}", writes * 7 % 10_000), "changed")
                    .unwrap();
                client.put(format!("p/new{writes:05}"), "new").unwrap();
                client
                    .delete(format!("p/{:05}", 9_999 - writes % 5_000))
                    .unwrap();
                writes += 1;
            }
            writes
        });
        eventually(SOON, "writes", || client.get("p/new00000").unwrap());
        let mut pages = client.pages(Get::prefix("p/"), 1_000).unwrap();
        assert_eq!(pages.revision(), None);
        let mut read = pages.next().unwrap().unwrap();
        let at = pages.revision().unwrap();
        let mut count = 1;
        for page in &mut pages {
            let page = page.unwrap();
            assert!(page.len() <= 1_000);
            read.extend(page);
            count += 1;
        }
        drop(done);
        assert!(writer.join().unwrap() > 0);
        let whole = client.call(Get::prefix("p/").revision(at)).unwrap();
        assert!(
            count >= 10 && read == whole.kvs(),
            "{count} pages, {} keys",
            read.len()
        );
        assert!(client.get("p/new00000").unwrap().unwrap().mod_revision() <= at);
    });
    let pinned = client
        .pages(Get::prefix("p/").revision(Revision::new(2)).keys_only(), 64)
        .unwrap();
    let names: BTreeSet<_> = pinned
        .flat_map(|p| p.unwrap())
        .map(|kv| kv.key().clone())
        .collect();
    assert_eq!(names.len(), 100, "the first transaction");
}

// Case: KV-17
#[test]
fn pages_of_any_size_contain_the_keys_of_one_read() {
    let (etcd, client) = start();
    fill(&client, "p/", 2_500);
    fill(&client, "q/", 10);
    let whole = client.call(Get::prefix("p/")).unwrap();
    for size in [7, 100, 1_250, 2_499, 2_500, 2_501] {
        let before = streams(&etcd);
        let mut pages = client.pages(Get::prefix("p/"), size as u32).unwrap();
        assert!(collect(&mut pages, size) == whole.kvs(), "pages of {size}");
        assert_eq!(pages.revision(), Some(whole.header().revision));
        assert!(pages.next().is_none());
        let begun = streams(&etcd)
            .zip(before)
            .map(|(after, before)| after - before);
        // One stream for the keys after the first page.
        assert!(
            begun.is_none_or(|n| n == i64::from(size < 2_500)),
            "{begun:?} of {size}"
        );
    }
    let names = |pages: Pages| -> Vec<_> { pages.flat_map(|page| page.unwrap()).collect() };
    let keys_only = names(client.pages(Get::prefix("p/").keys_only(), 100).unwrap());
    assert!(keys_only.iter().all(|kv| kv.value().is_empty()) && keys_only.len() == 2_500);
    let serializable = names(client.pages(Get::prefix("p/").serializable(), 100).unwrap());
    assert!(serializable == whole.kvs());
    let from = client
        .pages(Get::range(KeyRange::from_key("p/02400")), 30)
        .unwrap();
    assert_eq!(names(from).len(), 100 + 10);
    let mut none = client.pages(Get::prefix("none/"), 10).unwrap();
    assert!(none.next().unwrap().unwrap().is_empty() && none.next().is_none());
}

// Case: KV-21
// Fault: F43
#[test]
fn ranges_that_a_server_cannot_stream_have_the_same_pages() {
    let (etcd, client) = start();
    fill(&client, "p/", 500);
    // Written in an arbitrary order.
    let all = client.get_prefix("p/").unwrap();
    let mut revisions: Vec<_> = all.iter().map(KeyValue::mod_revision).collect();
    revisions.sort();
    let half = revisions[250];
    let get = Get::prefix("p/").min_mod_revision(half);
    let whole = client.call(get.clone()).unwrap();
    // With a filter, a page may be smaller.
    let pages = client.pages(get, 30).unwrap();
    let read: Vec<_> = pages.flat_map(|page| page.unwrap()).collect();
    assert!(read == whole.kvs() && read.len() < 500);
    assert!(streams(&etcd).is_none_or(|n| n == 0));
}

// Case: KV-20
#[test]
fn values_larger_than_one_streamed_piece_are_received() {
    let (_etcd, client) = start();
    let size = 1_400_000;
    fill_with(&client, "p/", 14, size);
    let mut pages = client.pages(Get::prefix("p/"), 3).unwrap();
    let read = collect(&mut pages, 3);
    assert!(read.len() == 14 && read.iter().all(|kv| kv.value().len() == size));
}

#[test]
fn pages_continue_after_a_broken_connection() {
    let (etcd, _) = start();
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::connect([proxy.endpoint()]).unwrap();
    fill_with(&client, "p/", 3_000, 10_000);
    let whole = client.call(Get::prefix("p/")).unwrap();
    let mut pages = client.pages(Get::prefix("p/"), 50).unwrap();
    let mut read = Vec::new();
    for (n, page) in pages.by_ref().enumerate() {
        read.extend(page.unwrap());
        if n % 10 == 5 {
            proxy.drop_connections();
        }
    }
    assert!(read == whole.kvs());
    assert_eq!(pages.revision(), Some(whole.header().revision));
}

#[test]
fn unread_pages_delay_no_other_call_and_can_be_continued() {
    let (etcd, client) = start();
    fill_with(&client, "p/", 3_000, 10_000);
    let whole = client.call(Get::prefix("p/")).unwrap();
    // More than the window of a connection.
    let mut lists: Vec<_> = (0..8)
        .map(|_| client.pages(Get::prefix("p/"), 50).unwrap())
        .collect();
    let mut read: Vec<Vec<KeyValue>> = Vec::new();
    for pages in &mut lists {
        read.push(
            pages
                .by_ref()
                .take(2)
                .flat_map(|page| page.unwrap())
                .collect(),
        );
    }
    let quick = client.with_timeout(Duration::from_secs(3));
    for n in 0..100 {
        quick.put(format!("q/{n}"), vec![b'q'; 100_000]).unwrap();
        assert!(quick.get(format!("q/{n}")).unwrap().is_some());
    }
    // A list that is read is not delayed either.
    let mut other = quick.pages(Get::prefix("p/"), 50).unwrap();
    assert!(collect(&mut other, 50) == whole.kvs());
    // The streams that were not read have ended on the server.
    eventually(SOON, "unread streams are ended", || {
        (client.pages(Get::prefix("p/"), 50).unwrap().count() == 60).then_some(())?;
        (streams_open(&etcd) == 0).then_some(())
    });
    for (pages, read) in lists.iter_mut().zip(&mut read) {
        read.extend(pages.flat_map(|page| page.unwrap()));
        assert!(read.as_slice() == whole.kvs());
    }
}

// Case: KV-19
// Fault: F36
#[test]
fn pages_after_a_compaction_end_with_an_error_that_names_the_revision() {
    let (_etcd, client) = start();
    fill_with(&client, "p/", 6_000, 10_000);
    let mut pages = client.pages(Get::prefix("p/"), 100).unwrap();
    let mut read: Vec<_> = (0..3)
        .flat_map(|_| pages.next().unwrap().unwrap())
        .collect();
    let at = pages.revision().unwrap();
    let later = client.put("p/later", "v").unwrap().revision();
    client.compact(later).unwrap();
    let error = loop {
        match pages.next().unwrap() {
            Ok(page) => read.extend(page),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
    assert!(
        error.to_string().contains(&format!("revision {at}")),
        "{error}"
    );
    assert!(pages.next().is_none());
    // The keys before the error are correct.
    assert!((300..6_000).contains(&read.len()), "{}", read.len());
    for (n, kv) in read.iter().enumerate() {
        assert_eq!(kv.key(), format!("p/{n:07}").as_str());
    }
    let mut old = client.pages(Get::prefix("p/").revision(at), 100).unwrap();
    let error = old.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
    assert!(
        error.to_string().contains(&format!("revision {at}")),
        "{error}"
    );
    assert!(old.next().is_none());
}

// Fault: F36
#[test]
fn memory_does_not_grow_with_the_range() {
    let name = "pages::memory_does_not_grow_with_the_range";
    alone(name, Duration::from_secs(120), || {
        let (_etcd, client) = start();
        let list = |prefix: &'static str| -> usize {
            let pages = client.pages(Get::prefix(prefix), 1_000).unwrap();
            pages.map(|page| page.unwrap().len()).sum()
        };
        fill_with(&client, "small/", 10_000, 1_000);
        fill_with(&client, "large/", 60_000, 1_000);
        assert_eq!(list("small/"), 10_000);
        reset_peak_rss();
        let before = peak_rss_kib();
        assert_eq!(list("large/"), 60_000);
        let grew = peak_rss_kib() - before;
        println!("60 MB in pages of 1 MB: the peak of memory grew by {grew} KiB");
        assert!(grew < 24 << 10, "{grew} KiB");
    });
}

#[test]
fn pages_whose_history_is_compacted_end_with_one_error() {
    let (_etcd, client) = start();
    fill(&client, "p/", 300);
    let mut pages = client.pages(Get::prefix("p/"), 100).unwrap();
    assert_eq!(pages.next().unwrap().unwrap().len(), 100);
    let later = client.put("p/later", "v").unwrap().revision();
    client.compact(later).unwrap();
    let error = pages.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
    assert!(pages.next().is_none() && pages.next().is_none());
}

// Fault: W11
#[test]
fn pages_of_a_count_are_refused() {
    let etcd = LocalEtcd::start().unwrap();
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let refused = client.pages(Get::prefix("k").count_only(), 10).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert!(refused.to_string().contains("count_only"), "{refused}");
}

// Fault: W3, F27
#[test]
fn pages_and_mirrors_shrink_to_what_fits_into_a_reply() {
    let (etcd, writer) = start();
    let client = Client::builder([etcd.endpoint()])
        .receive_limit(5 << 19)
        .connect()
        .unwrap();
    for n in 0..20 {
        let value = vec![b'v'; 300_000];
        writer.put(format!("big/{n:02}"), value).unwrap();
    }
    let read = client.pages(Get::prefix("big/"), 1000).unwrap();
    let keys: Vec<_> = read.flat_map(|page| page.unwrap()).collect();
    assert_eq!(keys.len(), 20);
    assert!(keys.is_sorted_by_key(|kv| kv.key().clone()));
    let mirror = client.mirror(KeyRange::prefix("big/")).unwrap();
    assert_eq!(mirror.snapshot().len(), 20);
}

// Fault: W3
#[test]
fn the_error_of_a_key_over_the_limit_contains_the_key() {
    let (etcd, writer) = start();
    let client = Client::builder([etcd.endpoint()])
        .receive_limit(1 << 20)
        .connect()
        .unwrap();
    writer.put("big/a", "small").unwrap();
    writer.put("big/b", vec![b'v'; 1_200_000]).unwrap();
    let mut pages = client.pages(Get::prefix("big/"), 1000).unwrap();
    let error = pages.find_map(Result::err).unwrap();
    let opening = client.mirror(KeyRange::prefix("big/")).unwrap_err();
    for error in [error, opening] {
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let text = error.to_string();
        let named = text.contains("big/b") && text.contains("receive_limit");
        assert!(named, "{text}");
    }
}

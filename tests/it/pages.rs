//! Large ranges, read page by page as of one revision.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Get, Put, Revision, Txn};

use crate::support::wait::{Raise, eventually};

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

#[test]
fn pages_show_one_revision_whatever_is_written_meanwhile() {
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

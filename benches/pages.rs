//! Benchmark of paged reads: time, processor time and memory for a million keys at one revision.
//!
//! Run `cargo bench --bench pages`; the first argument after `--` sets another number of keys. It compares
//! `Client::pages` (one stream from etcd 3.7 on) with one request per page, as for older servers. It writes
//! to the range during the reads, and compacts it at the end.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark program: an unexpected error ends it"
)]

use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Get, KeyRange, Put, Revision, Txn};

/// A field of `/proc/PROCESS/status`, in KiB.
fn memory_kib(process: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Processor time of a process in user and kernel mode (fields 14 and 15 of `/proc/PROCESS/stat`).
fn cpu(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .skip(11)
        .take(2);
    let ticks: u64 = fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn fill(client: &Client, keys: u32) {
    let names: Vec<String> = (0..keys).map(|n| format!("m/{n:07}")).collect();
    for names in names.chunks(128 * 16) {
        let puts = |names: &[String]| {
            let puts = names
                .iter()
                .map(|key| Put::new(key.clone(), vec![b'v'; 100]));
            client.submit(Txn::always(puts))
        };
        let pending: Vec<_> = names.chunks(128).map(puts).collect();
        for txn in pending {
            txn.wait().unwrap();
        }
    }
}

fn by_pages(client: &Client, size: u32) -> usize {
    let mut pages = client.pages(Get::prefix("m/"), size).unwrap();
    let mut count = 0;
    for page in &mut pages {
        let page = page.unwrap();
        count += page.len();
        // No page may contain this write, because all pages are of one revision.
        client.put("m/9", "new").unwrap();
    }
    let at = pages.revision().unwrap();
    client.delete("m/9").unwrap();
    let whole = Get::prefix("m/").revision(at).count_only();
    assert_eq!(
        client.call(whole).unwrap().count(),
        count as u64,
        "one revision"
    );
    count
}

fn by_requests(client: &Client, size: u32) -> usize {
    let (mut next, mut at, mut count) = (KeyRange::prefix("m/"), Revision::NONE, 0);
    loop {
        let get = Get::range(next.clone()).revision(at).limit(size);
        let page = client.call(get).unwrap();
        if at == Revision::NONE {
            at = page.header().revision;
        }
        count += page.kvs().len();
        match page.kvs().last() {
            Some(last) if page.more() => {
                let after = [last.key().as_ref(), b"\0"].concat();
                next = KeyRange::range(after, next.range_end().clone());
            }
            _ => return count,
        }
    }
}

/// Reads all keys in pages of a given size and returns the number of keys.
type Read = fn(&Client, u32) -> usize;

fn main() {
    let argument = std::env::args().skip(1).find_map(|n| n.parse().ok());
    let keys: u32 = argument.unwrap_or(1_000_000);
    let etcd = LocalEtcd::builder()
        .arg("--quota-backend-bytes=8589934592")
        .start()
        .unwrap();
    let server = etcd.pid().unwrap().to_string();
    let client = Client::builder([etcd.endpoint()])
        .timeout(Duration::from_secs(60))
        .connect()
        .unwrap();
    fill(&client, keys);
    println!("{keys} keys of 9 bytes with values of 100");
    println!(
        "| page size | method | time | client CPU | server CPU | growth of client's peak memory |"
    );
    println!("|---|---|---|---|---|---|");
    for size in [10_000, 1_000] {
        let methods: [(&str, Read); 2] = [("pages()", by_pages), ("requests", by_requests)];
        for (method, read) in methods {
            // Writing 5 resets VmHWM to the current resident size (proc(5)).
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let (peak, begun) = (memory_kib("self", "VmHWM:"), Instant::now());
            let (ours, theirs) = (cpu("self"), cpu(&server));
            assert_eq!(read(&client, size), keys as usize);
            println!(
                "| {size} | {method} | {:.2?} | {:.2?} | {:.2?} | {} KiB |",
                begun.elapsed(),
                cpu("self") - ours,
                cpu(&server) - theirs,
                memory_kib("self", "VmHWM:") - peak,
            );
        }
    }
    let begun = Instant::now();
    let mirror = client.mirror(KeyRange::prefix("m/")).unwrap();
    println!(
        "a mirror of {} keys after {:.2?}",
        mirror.snapshot().len(),
        begun.elapsed()
    );
    drop(mirror);

    let mut pages = client.pages(Get::prefix("m/"), 1_000).unwrap();
    let mut read = pages.next().unwrap().unwrap().len();
    let now = client.put("other", "v").unwrap().revision();
    client.compact(now).unwrap();
    let error = loop {
        match pages.next() {
            Some(Ok(page)) => read += page.len(),
            Some(Err(error)) => break error,
            None => panic!("all {read} keys of a compacted revision"),
        }
    };
    assert_eq!(error.kind(), ErrorKind::Compacted);
    println!("compacted, after {read} keys: {error}");
}

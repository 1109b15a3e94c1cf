//! A million keys, by pages: how long it takes, how much memory, and at one revision.
//!
//! `cargo bench --bench pages`; another number of keys as the first argument after `--`. It compares
//! pages as they come (from etcd 3.7 on by one stream) with pages by requests, which is how they come
//! from older servers. It writes to the range all the while, and compacts it at the end.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program to measure with: one that cannot go on should say so at once"
)]

use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, ErrorKind, Get, KeyRange, Put, Revision, Txn};

/// A field of what Linux says about a process, in KiB.
fn memory_kib(process: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Processor time of a process, in user and kernel mode.
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
        // A change that no page may show: of a key to come, and of one that is new.
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

/// Reads everything in pages of a size, and says how many keys there were.
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
    println!("| pages of | how | time | our CPU | the server's CPU | our peak memory grew by |");
    println!("|---|---|---|---|---|---|");
    for size in [10_000, 1_000] {
        let hows: [(&str, Read); 2] = [("pages()", by_pages), ("requests", by_requests)];
        for (how, read) in hows {
            // The peak begins anew, with what is in use.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let (peak, begun) = (memory_kib("self", "VmHWM:"), Instant::now());
            let (ours, theirs) = (cpu("self"), cpu(&server));
            assert_eq!(read(&client, size), keys as usize);
            println!(
                "| {size} | {how} | {:.2?} | {:.2?} | {:.2?} | {} KiB |",
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

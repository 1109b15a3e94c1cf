//! Prints what a mirror costs the other calls of its client, by the number of keys: while it lists, and while a
//! reader takes one snapshot after the other and another client changes keys.
//!
//! `cargo bench --bench mirror`, with numbers of keys as arguments.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark, not a library"
)]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::mirror::Mirror;
use etcd_blocking::{Client, KeyRange, Put, Revision, Txn};

/// How long keys are changed.
const WRITING: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(60);

fn key(n: usize) -> String {
    format!("m/{n:08}")
}

fn fill(client: &Client, keys: usize) {
    let puts: Vec<_> = (0..keys).map(|n| Put::new(key(n), [b'v'; 100])).collect();
    for puts in puts.chunks(10_000) {
        let txns = puts
            .chunks(100)
            .map(|puts| client.submit(Txn::when([]).then(puts.to_vec())));
        let txns: Vec<_> = txns.collect();
        for txn in txns {
            txn.wait().unwrap();
        }
    }
}

/// Does `work` while another thread gets a key; returns the latencies in ascending order.
fn beside<T>(client: &Client, work: impl FnOnce() -> T) -> (T, Vec<Duration>) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let gets = scope.spawn(|| {
            let mut latencies = Vec::new();
            loop {
                let begun = Instant::now();
                client.get("other").unwrap();
                latencies.push(begun.elapsed());
                if stop.load(Relaxed) {
                    return latencies;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let done = work();
        stop.store(true, Relaxed);
        let mut latencies = gets.join().unwrap();
        latencies.sort();
        (done, latencies)
    })
}

/// Changes keys, one after the other, while a reader takes snapshots and holds the last one. Returns the number of
/// changes and of snapshots.
fn change(mirror: &Mirror, writer: &Client, keys: usize) -> (usize, usize) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut held, mut taken) = (mirror.snapshot(), 0);
            while !stop.load(Relaxed) {
                thread::sleep(Duration::from_micros(200));
                held = mirror.snapshot();
                taken += 1;
            }
            drop(held);
            taken
        });
        let (begun, mut changes, mut last) = (Instant::now(), 0, Revision::NONE);
        while begun.elapsed() < WRITING {
            last = writer
                .put(key(changes * 7919 % keys), "w")
                .unwrap()
                .revision();
            changes += 1;
        }
        mirror.wait_revision(last, SOON).unwrap();
        stop.store(true, Relaxed);
        (changes, reader.join().unwrap())
    })
}

fn print(keys: usize, what: &str, latencies: &[Duration]) {
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    println!(
        "| {keys} | {what} | {} | {:.1?} | {:.1?} | {:.1?} |",
        latencies.len(),
        at(50),
        at(99),
        at(100)
    );
}

fn main() {
    let mut counts: Vec<usize> = std::env::args().filter_map(|n| n.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1_000, 100_000, 1_000_000];
    }
    println!("| keys | meanwhile | gets | p50 | p99 | longest |");
    println!("|---|---|---|---|---|---|");
    for keys in counts {
        let etcd = LocalEtcd::builder()
            .arg("--quota-backend-bytes=8589934592")
            .start()
            .unwrap();
        let client = Client::builder(etcd.endpoint())
            .timeout(SOON)
            .connect()
            .unwrap();
        let writer = Client::connect(etcd.endpoint()).unwrap();
        fill(&writer, keys);
        let begun = Instant::now();
        let (mirror, latencies) =
            beside(&client, || client.mirror(KeyRange::prefix("m/")).unwrap());
        assert_eq!(mirror.snapshot().len(), keys);
        let listed = begun.elapsed();
        print(keys, &format!("the list, {listed:.2?}"), &latencies);
        let ((changes, taken), latencies) = beside(&client, || change(&mirror, &writer, keys));
        let what = format!("{changes} changes, {taken} snapshots");
        print(keys, &what, &latencies);
    }
}

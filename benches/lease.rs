//! Prints the cost of keeping leases alive, by the number of leases of a client.
//!
//! `cargo bench --bench lease` takes about a minute. CPU time is that of the client's threads (Linux). Each
//! lease has a time to live of 6 s, so it is renewed every 2 s. Growth is the cost of a renewal relative to
//! the row above: 1.0 means that it does not grow.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark, not a library"
)]

mod process;

use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Grant, KeepAlive};
use process::{cpu, micros, resident, threads, threads_since};

const TTL: Duration = Duration::from_secs(6);
const RUN: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(60);

fn keep(client: &Client, count: usize) -> Vec<KeepAlive> {
    let mut kept = Vec::with_capacity(count);
    while kept.len() < count {
        let some = (count - kept.len()).min(100);
        let granted: Vec<_> = (0..some).map(|_| client.submit(Grant::ttl(TTL))).collect();
        for lease in granted {
            let lease = lease.wait().expect("granted").id();
            kept.push(client.keep_alive(lease).expect("kept"));
        }
    }
    let begun = Instant::now();
    for alive in &kept {
        while alive.valid_for().is_zero() {
            assert!(begun.elapsed() < SOON, "not renewed in {SOON:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }
    kept
}

fn main() {
    let etcd = LocalEtcd::start().expect("etcd starts");
    println!(
        "{:>8} {:>11} {:>15} {:>8} {:>12} {:>7} {:>11}",
        "leases", "renewals/s", "us per renewal", "growth", "CPU per s", "lost", "KiB each"
    );
    let mut above = f64::NAN;
    for count in [1, 10, 100, 1_000, 10_000] {
        let others = threads();
        let client = Client::connect(etcd.endpoint()).expect("a client");
        client.ready(SOON).expect("etcd serves");
        let (own, memory) = (threads_since(&others), resident());
        let kept = keep(&client, count);
        let grown = resident().saturating_sub(memory);
        // The renewals spread out over their interval.
        thread::sleep(TTL);
        let (renewals, used, begun) = (client.metrics().leases.renewals, cpu(&own), Instant::now());
        thread::sleep(RUN);
        let leases = client.metrics().leases;
        let (renewals, used) = (leases.renewals - renewals, cpu(&own) - used);
        let seconds = begun.elapsed().as_secs_f64();
        let each = micros(used, usize::try_from(renewals).expect("few"));
        println!(
            "{count:>8} {:>11.1} {each:>15.1} {:>8.2} {:>9.2} ms {:>7} {:>11.2}",
            renewals as f64 / seconds,
            each / above,
            used.as_secs_f64() * 1e3 / seconds,
            leases.lost,
            grown as f64 / 1024.0 / count as f64,
        );
        above = each;
        drop(kept);
    }
}

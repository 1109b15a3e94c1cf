//! Prints how fast a watch delivers live and past events.
//!
//! `cargo bench --bench watch` takes about a minute; `-- --events N` sets the number of past events
//! (1,000,000). Values have 256 bytes. CPU time is that of this process, which only
//! reads; another process puts the live events, as fast as etcd takes them. *bare* is a reader on `h2` alone, which counts the events
//! of the same backlog and keeps nothing: the limit of etcd. Each transaction of the backlog has 100 puts.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark, not a library"
)]

mod bare_watch;
mod process;

use std::collections::VecDeque;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, thread};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Pending, Put, Revision, Txn, TxnResponse, Watch};
use process::{cpu_time, micros, resident};

const ENDPOINT: &str = "BENCH_ENDPOINT";
const IN_TXN: &str = "BENCH_IN_TXN";
const VALUE: [u8; 256] = [b'v'; 256];
const LIVE: usize = 100_000;
const SOON: Duration = Duration::from_secs(60);

/// Puts all keys in order, with some requests in flight. Returns the lowest revision.
fn write(client: &Client, prefix: &str, count: usize, in_txn: usize) -> Revision {
    let mut flight = VecDeque::new();
    let mut first = None;
    let mut settle = |flight: &mut VecDeque<Pending<TxnResponse>>| {
        let txn = flight.pop_front().expect("one in flight");
        let revision = txn.wait().expect("put").revision();
        // etcd may execute them in another order.
        first = Some(first.map_or(revision, |first: Revision| first.min(revision)));
    };
    for begin in (0..count).step_by(in_txn) {
        let puts: Vec<_> = (begin..(begin + in_txn).min(count))
            .map(|n| Put::new(format!("{prefix}{:06}", n % 100_000), &VALUE[..]))
            .collect();
        flight.push_back(client.submit(Txn::when([]).then(puts)));
        if flight.len() == 16 {
            settle(&mut flight);
        }
    }
    while !flight.is_empty() {
        settle(&mut flight);
    }
    first.expect("an event")
}

/// The result of a reader: the number of events, the time, the CPU time and the growth of the resident
/// memory.
struct Reading {
    events: usize,
    took: Duration,
    used: Duration,
    grown: usize,
}

impl Reading {
    fn print(&self, name: &str) {
        println!(
            "{name:<24} {:>9} {:>9} {:>10.0} {:>10.2} {:>10.1}",
            self.events,
            format!("{:.2?}", self.took),
            self.events as f64 / self.took.as_secs_f64(),
            micros(self.used, self.events),
            self.grown as f64 / 1048576.0
        );
    }
}

/// Reads this many events. The time is that from the first response on if the watch is `live`.
fn read(client: &Client, watch: Watch, count: usize, is_live: bool) -> Reading {
    let (mut used, mut begun, memory) = (cpu_time(), Instant::now(), resident());
    let watcher = client.watch(watch).expect("a watch");
    let (mut events, mut most, mut responses) = (0, memory, 0_usize);
    while events < count {
        let response = watcher.recv_timeout(SOON).expect("in time");
        if events == 0 && is_live {
            (used, begun) = (cpu_time(), Instant::now());
        }
        events += response.expect("a response").events().len();
        responses += 1;
        if responses.is_multiple_of(64) {
            most = most.max(resident());
        }
    }
    Reading {
        events,
        took: begun.elapsed(),
        used: cpu_time() - used,
        grown: most.max(resident()).saturating_sub(memory),
    }
}

/// Another process puts as fast as it can, in transactions of this many puts.
fn live(etcd: &LocalEtcd, in_txn: usize) {
    let client = Client::connect(etcd.endpoint()).expect("a client");
    client.ready(SOON).expect("etcd serves");
    let mut writer = Command::new(env::current_exe().expect("this program"));
    writer.env(ENDPOINT, etcd.endpoint());
    writer.env(IN_TXN, in_txn.to_string());
    let prefix = format!("live{in_txn}/");
    let mut writer = writer.spawn().expect("a process");
    read(&client, Watch::prefix(prefix), LIVE, true)
        .print(&format!("live, {in_txn} in one revision"));
    writer.wait().expect("it ends");
}

fn main() {
    if let (Ok(endpoint), Ok(in_txn)) = (env::var(ENDPOINT), env::var(IN_TXN)) {
        let client = Client::connect(endpoint).expect("a client");
        // The reader opens its watch meanwhile.
        thread::sleep(Duration::from_secs(1));
        write(
            &client,
            &format!("live{in_txn}/"),
            LIVE,
            in_txn.parse().expect("a number"),
        );
        return;
    }
    let args: Vec<String> = env::args().collect();
    let past = args.iter().position(|arg| arg == "--events");
    let past = past.and_then(|at| args.get(at + 1)?.parse().ok());
    let past = past.unwrap_or(1_000_000);
    let etcd = LocalEtcd::start().expect("etcd starts");
    println!(
        "{:<24} {:>9} {:>9} {:>10} {:>10} {:>10}",
        "", "events", "in", "events/s", "CPU us", "grown MiB"
    );
    for in_txn in [1, 100] {
        live(&etcd, in_txn);
    }
    let client = Client::connect(etcd.endpoint()).expect("a client");
    let first = write(&client, "past/", past, 100);
    drop(client);
    for _ in 0..3 {
        let (took, used) = bare_watch::replay(&etcd, b"past/", first.get(), past);
        let bare = Reading {
            events: past,
            took,
            used,
            grown: 0,
        };
        bare.print("past, bare");
        let client = Client::connect(etcd.endpoint()).expect("a client");
        client.ready(SOON).expect("etcd serves");
        let watch = Watch::prefix("past/").start_revision(first);
        read(&client, watch, past, false).print("past");
    }
}

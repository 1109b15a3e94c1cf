//! Prints what a pick and a change of a view cost, by the number of instances, and what a change costs by
//! the number of views of a client.
//!
//! `cargo bench --bench view`. CPU time is that of the threads of the client that has the views (Linux);
//! another client of the same process makes the changes.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark, not a library"
)]

mod picks;

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Balance, Client, Discovery, Put, Revision, ServiceView, Txn};

const CHANGES: usize = 500;
const SOON: Duration = Duration::from_secs(60);

fn threads() -> HashSet<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    tasks
        .filter_map(|task| task.ok()?.file_name().into_string().ok())
        .collect()
}

/// The time that these threads have run.
fn cpu(threads: &HashSet<String>) -> Duration {
    let nanos = threads.iter().filter_map(|thread| {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

fn value(n: usize, load: usize) -> String {
    let weight = 1 + n % 7;
    format!(
        r#"{{"addr":"127.0.1.1:{}","weight":{weight},"version":"{load}"}}"#,
        1 + n % 60_000
    )
}

fn key(service: usize, n: usize) -> String {
    format!("/services/s{service}/{n}")
}

fn fill(client: &Client, puts: impl Iterator<Item = Put>) -> Revision {
    let puts: Vec<_> = puts.collect();
    let txns = puts
        .chunks(100)
        .map(|puts| client.submit(Txn::when([]).then(puts.to_vec())));
    let txns: Vec<_> = txns.collect();
    let revisions = txns
        .into_iter()
        .map(|txn| txn.wait().expect("put").revision());
    revisions.max().unwrap_or(Revision::NONE)
}

/// Changes instances one after the other; returns the CPU time for each of them.
fn change(
    writer: &Client,
    watched: &HashSet<String>,
    view: &ServiceView,
    instances: usize,
) -> Duration {
    let before = cpu(watched);
    let mut last = Revision::NONE;
    for load in 0..CHANGES {
        let n = load * 7919 % instances;
        last = writer
            .put(key(0, n), value(n, load))
            .expect("put")
            .revision();
    }
    view.wait_revision(last, SOON).expect("shown");
    (cpu(watched) - before) / CHANGES as u32
}

/// Changes instances without waiting in between; returns the CPU time for each of them.
fn burst(
    writer: &Client,
    watched: &HashSet<String>,
    view: &ServiceView,
    instances: usize,
) -> Duration {
    let before = cpu(watched);
    let puts = (0..CHANGES).map(|load| {
        let n = load * 7919 % instances;
        Put::new(key(0, n), value(n, load + CHANGES))
    });
    let pending: Vec<_> = puts.map(|put| writer.submit(put)).collect();
    let revisions = pending
        .into_iter()
        .map(|put| put.wait().expect("put").revision());
    let last = revisions.max().expect("some changes");
    view.wait_revision(last, SOON).expect("shown");
    (cpu(watched) - before) / CHANGES as u32
}

fn pick(view: &ServiceView) -> Duration {
    const PICKS: u32 = 200_000;
    let begun = Instant::now();
    for _ in 0..PICKS {
        black_box(view.pick());
    }
    begun.elapsed() / PICKS
}

/// The picks of 16 threads while instances change a thousand times a second.
fn busy_pick(writer: &Client, view: &ServiceView, instances: usize) -> (Duration, Duration) {
    let pick = || drop(black_box(view.pick()));
    picks::busy(pick, || picks::change(writer, put, instances))
}

fn put(n: usize, load: usize) -> Put {
    Put::new(key(0, n), value(n, load))
}

fn main() {
    let etcd = LocalEtcd::start().expect("etcd starts");
    let writer = Client::connect(etcd.endpoint()).expect("a client");
    writer.ready(SOON).expect("etcd serves");
    println!("instances  pick, weighted  pick, in turn   change  in a burst    busy p50 / p99");
    for instances in [10, 1_000, 10_000, 100_000] {
        let last = fill(&writer, (0..instances).map(|n| put(n, 0)));
        let others = threads();
        let client = Client::connect(etcd.endpoint()).expect("a client");
        let view = Discovery::new(&client).service("s0").expect("a view");
        let watched: HashSet<_> = threads().difference(&others).cloned().collect();
        let round = Discovery::new(&client)
            .balance(Balance::RoundRobin)
            .service("s0")
            .expect("a view");
        view.wait_revision(last, SOON).expect("shown");
        let (weighted, in_turn) = (pick(&view), pick(&round));
        drop(round);
        // Its memory is freed by the thread whose time is measured next.
        thread::sleep(Duration::from_secs(1));
        let changed = change(&writer, &watched, &view, instances);
        let burst = burst(&writer, &watched, &view, instances);
        let (p50, p99) = busy_pick(&writer, &view, instances);
        println!(
            "{instances:>9} {weighted:>15.2?} {in_turn:>14.2?} {changed:>8.2?} {burst:>11.2?}  {p50:>9.2?} / {p99:.2?}"
        );
    }
    println!(
        "                       instances      pick  pick_for   acquire      call    busy p50 / p99"
    );
    for instances in [10, 10_000] {
        writer.delete_prefix("/services/").expect("deleted");
        fill(&writer, (0..instances).map(|n| picks::put(n, 0)));
        picks::table(&etcd.endpoint(), &writer, instances);
    }
    writer.delete_prefix("/services/").expect("deleted");
    println!("    views  opened in    change of one  in a burst");
    for views in [1, 100, 1_000, 10_000] {
        fill(
            &writer,
            (0..views).map(|n| Put::new(key(n, 0), value(n, 0))),
        );
        let others = threads();
        let client = Client::connect(etcd.endpoint()).expect("a client");
        let discovery = Discovery::new(&client);
        let begun = Instant::now();
        let all: Vec<_> = (0..views)
            .map(|n| discovery.service(&format!("s{n}")).expect("a view"))
            .collect();
        let opened = begun.elapsed();
        let watched: HashSet<_> = threads().difference(&others).cloned().collect();
        let changed = change(&writer, &watched, &all[0], 1);
        let burst = burst(&writer, &watched, &all[0], 1);
        println!("{views:>9} {opened:>10.2?} {changed:>16.2?} {burst:>11.2?}");
    }
}

//! Prints the memory of one lease, registration, view, and instance of a view and of a catalog.
//!
//! `cargo bench --bench memory`. Each row is a process of its own: its resident memory at the end, less that
//! of a client that is ready, divided by the count (Linux). A figure includes the allocator's own share.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark, not a library"
)]

use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Discovery, Grant, Instance, Put, Registrar, Revision, Txn};

const ENDPOINT: &str = "BENCH_ENDPOINT";
const ROW: &str = "BENCH_ROW";
const COUNT: usize = 10_000;

type Row = fn(&Client) -> String;
const ROWS: [(&str, Row); 5] = [
    ("lease", leases),
    ("registration", registrations),
    ("instance of a view", instances),
    ("instance of a catalog", catalog),
    ("view", views),
];

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|text| text.parse().ok());
    pages.unwrap_or(0) * 4096
}

/// Runs `make`, and returns as text how much memory each of the `count` items takes that it created.
fn each<T>(count: usize, make: impl FnOnce() -> T) -> String {
    let before = resident();
    let made = make();
    let grown = resident().saturating_sub(before);
    drop(made);
    format!(
        "{:.2} KiB each of {count}",
        grown as f64 / count as f64 / 1024.0
    )
}

fn leases(client: &Client) -> String {
    each(COUNT, || {
        let mut kept = Vec::with_capacity(COUNT);
        for _ in 0..COUNT / 100 {
            let granted = [(); 100].map(|()| client.submit(Grant::ttl(secs(3600))));
            for lease in granted {
                let id = lease.wait().expect("granted").id();
                kept.push(client.keep_alive(id).expect("kept"));
            }
        }
        kept
    })
}

fn registrations(client: &Client) -> String {
    let registrar = Registrar::builder(client).ttl(secs(60)).start();
    let registrar = registrar.expect("a registrar");
    each(COUNT, || {
        let mut all = Vec::with_capacity(COUNT);
        for n in 0..COUNT {
            let instance = Instance::new("api", format!("10.0.{}.{}:80", n / 250, n % 250));
            all.push(registrar.announce(instance).expect("announced"));
            if n % 100 == 99 {
                all[n].wait_registered(secs(30)).expect("registered");
            }
        }
        all
    })
}

/// Puts the instances with these keys.
fn fill(client: &Client, key: impl Fn(usize) -> String) -> Revision {
    let mut last = Revision::NONE;
    for first in (0..COUNT).step_by(100) {
        let put = |n: usize| Put::new(key(n), r#"{"addr":"127.0.1.1:80"}"#);
        let puts: Vec<_> = (first..first + 100).map(put).collect();
        let txn = client.txn(Txn::when([]).then(puts));
        last = txn.expect("put").revision();
    }
    last
}

fn instances(client: &Client) -> String {
    fill(client, |n| format!("/services/one/{n}"));
    each(COUNT, || {
        Discovery::new(client).service("one").expect("a view")
    })
}

/// One tenth as many services as instances.
fn catalog(client: &Client) -> String {
    fill(client, |n| {
        format!("/services/service-{}/{n}", n % (COUNT / 10))
    });
    each(COUNT, || {
        Discovery::new(client).services().expect("a catalog")
    })
}

fn views(client: &Client) -> String {
    let discovery = Discovery::new(client);
    each(COUNT / 10, || {
        let views = (0..COUNT / 10).map(|n| discovery.service(&format!("none{n}")));
        views.map(|view| view.expect("a view")).collect::<Vec<_>>()
    })
}

fn main() {
    if let (Ok(endpoint), Ok(row)) = (env::var(ENDPOINT), env::var(ROW)) {
        let client = Client::connect(endpoint).expect("a client");
        client.ready(secs(10)).expect("etcd serves");
        let row = ROWS.iter().find(|(name, _)| *name == row);
        println!("{}", row.expect("a row").1(&client));
        return;
    }
    let program = env::current_exe().expect("this program");
    for (name, _) in ROWS {
        let etcd = LocalEtcd::start().expect("etcd starts");
        let mut row = Command::new(&program);
        let output = row.env(ENDPOINT, etcd.endpoint()).env(ROW, name).output();
        let output = output.expect("a process");
        println!(
            "{name:<21} {}",
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
}

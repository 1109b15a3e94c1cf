//! Prints how often the threads of an idle client wake up, and the resident memory of its process.
//!
//! `cargo bench --bench idle` takes about 70 seconds (Linux); `-- --seconds N` sets the measured time. Each
//! row is a process of its own, and all run at the same time on one etcd. A wake-up is a voluntary context
//! switch of any thread: a thread that was woken goes back to sleep. The rows are:
//!
//! - `client`: a client that has made one call;
//! - `registration`: a registrar with its default time to live, and one instance;
//! - `and a view`: a view of the service as well;
//! - `1000 registered`: a registrar with 1,000 instances.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark, not a library"
)]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Discovery, Instance, Registrar};

const ENDPOINT: &str = "BENCH_ENDPOINT";
const ROW: &str = "BENCH_ROW";

/// The idle time of a client before the measurement, so that earlier calls cause no wake-ups in it.
const SETTLE: Duration = Duration::from_secs(8);

/// The name of a row, how many instances it registers, and whether it has a view.
const ROWS: [(&str, usize, bool); 4] = [
    ("client", 0, false),
    ("registration", 1, false),
    ("and a view", 1, true),
    ("1000 registered", 1000, false),
];

/// The voluntary context switches of each thread but the main one, by thread id.
fn wakeups() -> BTreeMap<u32, (String, u64)> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let tasks = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let id: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let status = fs::read_to_string(path.join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let count = field("voluntary_ctxt_switches:")?.trim().parse().ok()?;
        let name = field("Name:")?.trim().to_owned();
        (id != std::process::id()).then_some((id, (name, count)))
    });
    tasks.collect()
}

fn resident_kib() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|text| text.parse().ok());
    pages.unwrap_or(0) * 4
}

/// Runs one row and prints its resident memory, the wake-ups per second, and those of each thread.
fn row(endpoint: &str, instances: usize, has_view: bool, span: Duration) {
    let client = Client::connect(endpoint).expect("a client");
    client.ready(Duration::from_secs(10)).expect("etcd serves");
    let service = format!("idle{}", std::process::id());
    let registrar = (instances > 0).then(|| Registrar::builder(&client).start().expect("started"));
    let announced: Vec<_> = (0..instances)
        .filter_map(|n| {
            let instance = Instance::new(&*service, format!("10.0.{}.{}:80", n / 250, n % 250));
            Some(registrar.as_ref()?.announce(instance).expect("announced"))
        })
        .collect();
    for registration in &announced {
        let registered = registration.wait_registered(Duration::from_secs(30));
        registered.expect("registered");
    }
    let view = has_view.then(|| Discovery::new(&client).service(&service).expect("a view"));
    thread::sleep(SETTLE);
    let (before, begun) = (wakeups(), Instant::now());
    thread::sleep(span);
    let (after, took) = (wakeups(), begun.elapsed().as_secs_f64());
    let woken = after.iter().map(|(id, (name, count))| {
        let earlier = before.get(id).map_or(0, |(_, count)| *count);
        (name, (count - earlier) as f64 / took)
    });
    let woken: Vec<_> = woken.collect();
    let sum: f64 = woken.iter().map(|(_, rate)| rate).sum();
    let each: Vec<_> = woken
        .iter()
        .map(|(name, rate)| format!("{name} {rate:.2}"))
        .collect();
    println!("{} {sum} {}", resident_kib(), each.join(", "));
    drop((view, announced, registrar));
}

fn main() {
    let args: Vec<String> = env::args().collect();
    let seconds = args.iter().position(|arg| arg == "--seconds");
    let seconds = seconds.and_then(|at| args.get(at + 1)?.parse().ok());
    let span = Duration::from_secs(seconds.unwrap_or(60));
    if let (Ok(endpoint), Ok(name)) = (env::var(ENDPOINT), env::var(ROW)) {
        let (_, instances, has_view) = ROWS.iter().find(|row| row.0 == name).expect("a row");
        return row(&endpoint, *instances, *has_view, span);
    }
    let etcd = LocalEtcd::start().expect("etcd starts");
    let program = env::current_exe().expect("this program");
    let running = ROWS.map(|(name, _, _)| {
        let mut row = Command::new(&program);
        let row = row.args(&args[1..]).stdout(Stdio::piped());
        let row = row.env(ENDPOINT, etcd.endpoint()).env(ROW, name);
        (name, row.spawn().expect("a process"))
    });
    println!(
        "{:<16} {:>10} {:>9} {:>12} {:>10}",
        "", "wake-ups/s", "growth", "resident KiB", "growth"
    );
    let mut first = None;
    for (name, row) in running {
        let output = row.wait_with_output().expect("it ends");
        let output = String::from_utf8(output.stdout).expect("text");
        let mut parts = output.trim().splitn(3, ' ');
        let mut number = || parts.next().and_then(|text| text.parse::<f64>().ok());
        let (resident, rate) = (number().expect("a row"), number().expect("a row"));
        let (first_rate, first_resident) = *first.get_or_insert((rate, resident));
        println!(
            "{name:<16} {rate:>10.2} {:>+9.2} {resident:>12} {:>+10}   {}",
            rate - first_rate,
            resident - first_resident,
            parts.next().unwrap_or_default()
        );
    }
}

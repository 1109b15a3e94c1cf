//! Compares get and put with Go's clientv3: one value of 256 bytes, from 1 and from 16 threads.
//!
//! `cargo bench --bench go` needs Go, and takes about two minutes; `-- --rounds N` sets the number of rounds
//! (5). Each client is a process of its own, and both call one etcd, in turn. It prints medians, and the
//! medians of the ratios within a round.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark, not a library"
)]

mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use std::{env, thread};

use etcd_blocking::Client;
use etcd_blocking::local::LocalEtcd;
use process::cpu_time;

const ENDPOINT: &str = "BENCH_ENDPOINT";
const KEY: &str = "bench/key";
const VALUE: [u8; 256] = [b'v'; 256];
const SECONDS: &str = "2";

/// Calls a second, median and 99th percentile of the latency, and CPU time of a call, in microseconds.
type Figures = [f64; 4];

fn build() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-bench");
    let mut go = Command::new("go");
    go.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go"));
    go.args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg("./bench");
    let built = go.status().expect("Go is installed");
    assert!(built.success(), "the Go program cannot be built");
    program
}

fn call(client: &Client, verb: &str) {
    match verb {
        "get" => assert!(client.get(KEY).unwrap().is_some()),
        _ => drop(client.put(KEY, &VALUE[..]).unwrap()),
    }
}

/// The counterpart of the Go program.
fn measure(endpoint: &str, verb: &str, threads: usize, span: Duration) -> Figures {
    let client = Client::connect(endpoint).unwrap();
    let start = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let work = || {
            for _ in 0..100 {
                call(&client, verb);
            }
            let mut latencies = Vec::with_capacity(100_000);
            start.wait();
            let begun = Instant::now();
            while begun.elapsed() < span {
                let sent = Instant::now();
                call(&client, verb);
                latencies.push(sent.elapsed());
            }
            latencies
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        start.wait();
        let (begun, before) = (Instant::now(), cpu_time());
        let latencies = workers.into_iter().map(|worker| worker.join().unwrap());
        let mut latencies: Vec<_> = latencies.flatten().collect();
        let (took, used) = (begun.elapsed(), cpu_time() - before);
        latencies.sort_unstable();
        let count = latencies.len() as f64;
        let at = |share: f64| latencies[(count * share) as usize].as_secs_f64() * 1e6;
        let used = used.as_secs_f64() * 1e6;
        [count / took.as_secs_f64(), at(0.5), at(0.99), used / count]
    })
}

fn run(program: &Path, endpoint: &str, args: &[&str]) -> Figures {
    let mut program = Command::new(program);
    let output = program
        .arg(endpoint)
        .args(args)
        .env(ENDPOINT, endpoint)
        .output();
    let output = String::from_utf8(output.expect("it runs").stdout).expect("text");
    let figures: Vec<f64> = output
        .split_whitespace()
        .filter_map(|figure| figure.parse().ok())
        .collect();
    figures.try_into().expect("four figures")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let args: Vec<String> = env::args().collect();
    if let (Ok(_), [_, endpoint, verb, threads, seconds]) = (env::var(ENDPOINT), &args[..]) {
        let span = Duration::from_secs(seconds.parse().expect("seconds"));
        let [ops, p50, p99, cpu] =
            measure(endpoint, verb, threads.parse().expect("a number"), span);
        println!("{ops} {p50} {p99} {cpu}");
        return;
    }
    let rounds = args.iter().position(|arg| arg == "--rounds");
    let rounds = rounds
        .and_then(|at| args.get(at + 1)?.parse().ok())
        .unwrap_or(5);
    let (go, ours) = (build(), env::current_exe().expect("this program"));
    let etcd = LocalEtcd::start().expect("etcd starts");
    let client = Client::connect(etcd.endpoint()).expect("a client");
    client.put(KEY, &VALUE[..]).expect("put");
    client.close().expect("closed");
    println!(
        "{:<16} {:>9} {:>8} {:>8} {:>8}",
        "", "op/s", "p50 us", "p99 us", "CPU us"
    );
    for threads in ["1", "16"] {
        for verb in ["get", "put"] {
            let measured: Vec<(Figures, Figures)> = (0..rounds)
                .map(|_| {
                    let args = [verb, threads, SECONDS];
                    let of_go = run(&go, &etcd.endpoint(), &args);
                    (of_go, run(&ours, &etcd.endpoint(), &args))
                })
                .collect();
            let row =
                |name: &str, of: &dyn Fn(&(Figures, Figures), usize) -> f64, digits: usize| {
                    let column = |n| median(measured.iter().map(|round| of(round, n)));
                    println!(
                        "{:<16} {:>9.*} {:>8.*} {:>8.*} {:>8.2}",
                        format!("{verb} {threads} {name}"),
                        digits,
                        column(0),
                        digits,
                        column(1),
                        digits,
                        column(2),
                        column(3)
                    );
                };
            row("Go", &|(of_go, _), n| of_go[n], 0);
            row("ours", &|(_, ours), n| ours[n], 0);
            row("ratio", &|(of_go, ours), n| ours[n] / of_go[n], 2);
        }
    }
}

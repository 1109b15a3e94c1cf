//! Benchmark of get and put: from 1, 2, 4 and 16 threads, and pipelined from one thread.
//!
//! Each result is compared with a floor: the same requests as raw bytes over `h2`, on one thread, with the
//! same number in flight.
//!
//! `cargo bench --bench unary` starts a private etcd and takes about two minutes. Each round measures the
//! floor and then the crate; medians and their ratios are printed. `cargo bench --bench unary -- get` runs
//! only the benchmarks with `get` in their name, and `--rounds N` sets the number of rounds.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark, not a library"
)]

mod floor;

use std::collections::VecDeque;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::config::DriveMode;
use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Get, GetResponse, Pending, Put, PutResponse};
use rustix::time::{ClockId, clock_gettime};

const VALUE: [u8; 256] = [b'v'; 256];
const KEY: &str = "bench/key";
const RUN: Duration = Duration::from_millis(1200);

/// Result of one measurement; times in microseconds.
#[derive(Clone, Debug)]
struct Figure {
    ops: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    Get,
    Put,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds = value_of(&args, "--rounds").unwrap_or(3);
    let filter = args
        .iter()
        .find(|arg| !arg.starts_with('-') && arg.parse::<usize>().is_err());
    let etcd = LocalEtcd::start().expect("etcd starts");
    Client::connect([etcd.endpoint()])
        .unwrap()
        .put(KEY, VALUE.to_vec())
        .unwrap();
    println!(
        "{:<22} {:>9} {:>8} {:>8} {:>8}   {:>7} {:>7}",
        "", "op/s", "p50 us", "p99 us", "cpu us", "op/s", "cpu"
    );
    println!(
        "{:<22} {:>9} {:>8} {:>8} {:>8}   {:>15}",
        "", "", "", "", "", "to the floor"
    );
    for verb in [Verb::Get, Verb::Put] {
        for flight in [1, 2, 4, 16] {
            let name = format!("{verb:?} {flight} threads").to_lowercase();
            if filter.is_none_or(|filter| name.contains(filter)) {
                compare(
                    &name,
                    rounds,
                    || floor::run(&etcd, verb, flight),
                    &paths(&etcd, verb, flight),
                );
            }
        }
        let name = format!("{verb:?} 16 pipelined").to_lowercase();
        if filter.is_none_or(|filter| name.contains(filter)) {
            let ours: Vec<(&str, Run<'_>)> = vec![
                ("", Box::new(|| pipelined(&etcd, verb, 16, false))),
                (" (in order)", Box::new(|| pipelined(&etcd, verb, 16, true))),
            ];
            compare(&name, rounds, || floor::run(&etcd, verb, 16), &ours);
        }
    }
}

type Run<'a> = Box<dyn Fn() -> Figure + 'a>;

/// The drive modes to measure: automatic, always the caller, always the runtime thread.
fn paths<'a>(etcd: &'a LocalEtcd, verb: Verb, threads: usize) -> Vec<(&'static str, Run<'a>)> {
    let mut paths: Vec<(&'static str, Run<'a>)> = vec![(
        "",
        Box::new(move || threaded(etcd, verb, threads, DriveMode::Auto)),
    )];
    paths.push((
        " (caller drives)",
        Box::new(move || threaded(etcd, verb, threads, DriveMode::Caller)),
    ));
    paths.push((
        " (thread drives)",
        Box::new(move || threaded(etcd, verb, threads, DriveMode::Thread)),
    ));
    paths
}

fn compare(name: &str, rounds: usize, floor: impl Fn() -> Figure, ours: &[(&str, Run<'_>)]) {
    let mut floors = Vec::new();
    let mut figures = vec![Vec::new(); ours.len()];
    for _ in 0..rounds {
        floors.push(floor());
        for ((_, run), figures) in ours.iter().zip(&mut figures) {
            figures.push(run());
        }
    }
    print_row(&format!("{name}: floor"), &floors, None);
    for ((path, _), figures) in ours.iter().zip(&figures) {
        print_row(&format!("{name}{path}"), figures, Some(&floors));
    }
}

fn print_row(name: &str, figures: &[Figure], floors: Option<&[Figure]>) {
    let of = |part: fn(&Figure) -> f64| median(figures.iter().map(part).collect());
    print!(
        "{name:<32} {:>9.0} {:>8.0} {:>8.0} {:>8.1}",
        of(|f| f.ops),
        of(|f| f.p50),
        of(|f| f.p99),
        of(|f| f.cpu)
    );
    if let Some(floors) = floors {
        let ratio = |part: fn(&Figure) -> f64| {
            median(
                figures
                    .iter()
                    .zip(floors)
                    .map(|(ours, floor)| part(ours) / part(floor))
                    .collect(),
            )
        };
        print!("   {:>7.2} {:>7.2}", ratio(|f| f.ops), ratio(|f| f.cpu));
    }
    println!();
}

fn threaded(etcd: &LocalEtcd, verb: Verb, threads: usize, drive: DriveMode) -> Figure {
    let client = Client::builder([etcd.endpoint()])
        .drive(drive)
        .connect()
        .unwrap();
    let start = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (client, start) = (client.clone(), &start);
                scope.spawn(move || {
                    for _ in 0..100 {
                        call(&client, verb);
                    }
                    start.wait();
                    let mut latencies = Vec::with_capacity(100_000);
                    let begun = Instant::now();
                    while begun.elapsed() < RUN {
                        let sent = Instant::now();
                        call(&client, verb);
                        latencies.push(sent.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        start.wait();
        let meter = Meter::start();
        let latencies = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect();
        meter.figure(latencies)
    })
}

fn call(client: &Client, verb: Verb) {
    match verb {
        Verb::Get => assert!(client.get(KEY).unwrap().is_some()),
        Verb::Put => drop(client.put(KEY, &VALUE[..]).unwrap()),
    }
}

/// One thread with `flight` requests in flight: each answered request is replaced by a new one. With
/// `in_order`, a reply that arrives before an earlier one is taken only after it, so fewer are in flight.
fn pipelined(etcd: &LocalEtcd, verb: Verb, flight: usize, in_order: bool) -> Figure {
    let client = Client::connect([etcd.endpoint()]).unwrap();
    let mut flights: VecDeque<Flight> = (0..flight).map(|_| Flight::begin(&client, verb)).collect();
    for _ in 0..100 {
        next(&mut flights);
        flights.push_back(Flight::begin(&client, verb));
    }
    let mut latencies = Vec::with_capacity(1_000_000);
    let meter = Meter::start();
    while meter.begun.elapsed() < RUN {
        latencies.push(next(&mut flights));
        flights.retain(|flight| {
            let done = !in_order && flight.is_done();
            if done {
                latencies.push(flight.begun.elapsed());
            }
            !done
        });
        while flights.len() < flight {
            flights.push_back(Flight::begin(&client, verb));
        }
    }
    let figure = meter.figure(latencies);
    flights.into_iter().for_each(|flight| flight.wait());
    figure
}

/// Waits for the oldest request and returns its latency.
fn next(flights: &mut VecDeque<Flight>) -> Duration {
    let oldest = flights
        .pop_front()
        .expect("at least one request is in flight");
    let begun = oldest.begun;
    oldest.wait();
    begun.elapsed()
}

/// A request in flight.
struct Flight {
    begun: Instant,
    reply: Reply,
}

enum Reply {
    Get(Pending<GetResponse>),
    Put(Pending<PutResponse>),
}

impl Flight {
    fn begin(client: &Client, verb: Verb) -> Self {
        let begun = Instant::now();
        let reply = match verb {
            Verb::Get => Reply::Get(client.submit(Get::key(KEY))),
            Verb::Put => Reply::Put(client.submit(Put::new(KEY, &VALUE[..]))),
        };
        Flight { begun, reply }
    }

    fn is_done(&self) -> bool {
        match &self.reply {
            Reply::Get(get) => get.try_wait().map(Result::unwrap).is_some(),
            Reply::Put(put) => put.try_wait().map(Result::unwrap).is_some(),
        }
    }

    fn wait(self) {
        match self.reply {
            Reply::Get(get) => drop(get.wait().unwrap()),
            Reply::Put(put) => drop(put.wait().unwrap()),
        }
    }
}

/// Measures elapsed time and processor time of this process.
struct Meter {
    begun: Instant,
    cpu: Duration,
}

impl Meter {
    fn start() -> Self {
        Meter {
            begun: Instant::now(),
            cpu: cpu_time(),
        }
    }

    fn figure(&self, mut latencies: Vec<Duration>) -> Figure {
        let (elapsed, cpu) = (self.begun.elapsed(), cpu_time() - self.cpu);
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies
                .get(index)
                .map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
        };
        let ops = latencies.len() as f64;
        Figure {
            ops: ops / elapsed.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            cpu: cpu.as_secs_f64() * 1e6 / ops,
        }
    }
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn value_of(args: &[String], name: &str) -> Option<usize> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1)?.parse().ok()
}

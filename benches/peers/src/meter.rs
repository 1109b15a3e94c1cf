//! Measures the peers that are written in Rust.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Failure;
use crate::params::Params;
use crate::report::Report;

/// CPU time of this process, user and system.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The highest resident memory of this process so far, in KiB (Linux).
fn peak_kib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Time and CPU time since a moment.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    begun: Instant,
    used: Duration,
}

impl Meter {
    pub fn start() -> Self {
        Self {
            begun: Instant::now(),
            used: cpu_time(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The figures of this many operations until now.
    pub fn report(&self, ops: usize) -> Report {
        let (secs, used) = (self.begun.elapsed().as_secs_f64(), cpu_time() - self.used);
        let cpu = (ops > 0).then(|| used.as_secs_f64() * 1e6 / ops as f64);
        Report {
            ops: ops as f64,
            secs,
            cpu,
            rss: peak_kib(),
            ..Report::default()
        }
    }

    /// The same, with these latencies.
    pub fn with_latencies(&self, mut latencies: Vec<Duration>) -> Report {
        let mut report = self.report(latencies.len());
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            latencies
                .get(place)
                .map(|latency| latency.as_secs_f64() * 1e6)
        };
        (report.p50, report.p99) = (at(0.5), at(0.99));
        report
    }
}

/// How long a loop runs.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub warm: Duration,
    pub secs: Duration,
    /// The most operations of one thread.
    pub most: usize,
}

impl Span {
    pub fn of(params: &Params) -> Result<Self, Failure> {
        let (warm, secs) = (params.seconds("warm")?, params.seconds("secs")?);
        Ok(Self {
            warm,
            secs,
            most: params.number("most")?,
        })
    }
}

/// Calls from some threads, each one after the other; `make` makes the caller of a thread.
pub fn closed_loop<C>(
    threads: usize,
    span: Span,
    make: impl Fn(usize) -> C,
) -> Result<Report, Failure>
where
    C: FnMut() -> Result<(), Failure> + Send,
{
    let (start, failed) = (Barrier::new(threads + 1), AtomicUsize::new(0));
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for n in 0..threads {
            let (mut call, start, failed) = (make(n), &start, &failed);
            workers.push(scope.spawn(move || -> Result<Vec<Duration>, Failure> {
                let (warming, mut warmed) = (Instant::now(), Ok(()));
                for _ in 0..span.most {
                    if warmed.is_err() || warming.elapsed() >= span.warm {
                        break;
                    }
                    warmed = call();
                }
                let mut latencies = Vec::with_capacity(100_000);
                start.wait();
                warmed?;
                let begun = Instant::now();
                while begun.elapsed() < span.secs
                    && latencies.len() < span.most
                    && failed.load(Ordering::Relaxed) == 0
                {
                    let sent = Instant::now();
                    if let Err(error) = call() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        return Err(error);
                    }
                    latencies.push(sent.elapsed());
                }
                Ok(latencies)
            }));
        }
        start.wait();
        let meter = Meter::start();
        let mut latencies = Vec::new();
        for worker in workers {
            latencies.extend(worker.join().map_err(|_| "a thread panicked")??);
        }
        Ok(meter.with_latencies(latencies))
    })
}

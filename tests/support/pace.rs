//! Delay of an overloaded machine, so that time bounds measure the code and not the load.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Sampling interval.
const STEP: Duration = Duration::from_millis(10);

/// Thread that records by how much the machine delays its threads.
///
/// Two delays are recorded: when twice as many threads are runnable as there are processors, each step takes
/// twice as long; and when this thread wakes late, other threads do too. Each bound that is checked here is
/// extended by the delay recorded during its span, and by nothing on an idle machine.
#[derive(Debug)]
pub struct Pace {
    record: Arc<Mutex<Vec<(Instant, Duration)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pace {
    pub fn start() -> Self {
        let record = Arc::new(Mutex::new(vec![(Instant::now(), Duration::ZERO)]));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (record, stop) = (Arc::clone(&record), Arc::clone(&stop));
            move || record_delays(&record, &stop)
        });
        Pace {
            record,
            stop,
            thread: Some(thread),
        }
    }

    /// The delay from `from` to `to`.
    pub fn delay(&self, from: Instant, to: Instant) -> Duration {
        let record = self.record.lock().unwrap();
        let at = |moment: Instant| {
            let later = record.partition_point(|(at, _)| *at <= moment);
            record[later.saturating_sub(1)].1
        };
        // The step that contains `to` is not recorded yet, and may be long.
        let later = record.partition_point(|(at, _)| *at <= to);
        let end = record.get(later).map_or_else(
            || {
                let (last, delay) = record[record.len() - 1];
                delay + to.saturating_duration_since(last).saturating_sub(STEP)
            },
            |(_, delay)| *delay,
        );
        end.saturating_sub(at(from))
    }

    /// Panics when the span from `from` to `to`, without the recorded delay, is longer than `bound`.
    #[track_caller]
    pub fn check_span(&self, what: &str, from: Instant, to: Instant, bound: Duration) {
        let took = to.saturating_duration_since(from);
        let delay = self.delay(from, to);
        assert!(
            took < bound + delay,
            "{what} took {took:?}; the bound is {bound:?}, and the delay of the machine {delay:?}"
        );
    }

    /// [`check_span`](Self::check_span) of a span that ends now; returns its length.
    #[track_caller]
    pub fn check(&self, what: &str, from: Instant, bound: Duration) -> Duration {
        let now = Instant::now();
        self.check_span(what, from, now, bound);
        now.saturating_duration_since(from)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn record_delays(record: &Mutex<Vec<(Instant, Duration)>>, stop: &AtomicBool) {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut delay = Duration::ZERO;
    let mut last = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        thread::sleep(STEP);
        let now = Instant::now();
        let step = now.duration_since(last);
        let per_processor = runnable_threads() as f64 / processors as f64;
        delay += step.mul_f64((per_processor - 1.0).max(0.0)) + step.saturating_sub(2 * STEP);
        last = now;
        record.lock().unwrap().push((now, delay));
    }
}

/// Number of runnable threads of the machine, including the caller.
fn runnable_threads() -> usize {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("procs_running "));
    line.and_then(|count| count.trim().parse().ok())
        .unwrap_or(1)
}

//! The resource use of threads and processes (Linux).

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The ids of the threads of this process.
pub(crate) fn threads() -> HashSet<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let names = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
    names.collect()
}

/// The threads that were started since.
pub(crate) fn threads_since(earlier: &HashSet<String>) -> HashSet<String> {
    threads().difference(earlier).cloned().collect()
}

/// The time that these threads have run.
pub(crate) fn cpu(threads: &HashSet<String>) -> Duration {
    let nanos = threads.iter().filter_map(|thread| {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// The time that all threads of this process have run.
pub(crate) fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The resident memory of this process, in bytes.
pub(crate) fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|text| text.parse().ok());
    pages.unwrap_or(0) * 4096
}

pub(crate) fn micros(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

//! Waiting for conditions, and what Linux knows of this process.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Calls `look` each 5 ms until it returns `Some`, and panics with `what` when that takes longer
/// than `timeout`.
#[track_caller]
pub fn eventually<T>(timeout: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Raises a flag when it is dropped, also by a panic: for threads that go on until they are told,
/// and would else keep a test that failed from ending.
#[derive(Debug)]
pub struct Raise<'a>(pub &'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Threads of this process.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Open file descriptors of this process.
pub fn open_fds() -> usize {
    // The one that lists them is among them.
    fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Resident memory of this process in KiB.
pub fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time this process has used, in user and kernel mode, all threads; steps of 10 ms.
pub fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The second field is the program's name in parentheses and may hold spaces: count from behind
    // it. utime and stime are fields 14 and 15 of proc(5), in ticks of 1/100 s (USER_HZ on
    // every Linux that Rust's std runs on).
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

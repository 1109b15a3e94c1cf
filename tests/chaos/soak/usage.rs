//! The memory, threads and files of this process.

use std::fs;

use crate::ALLOCATOR;
use crate::support::wait::{open_fds, rss_kib, threads};

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Seconds since the start.
    pub at: f64,
    /// Resident memory in MiB.
    pub memory: f64,
    /// Allocated memory in MiB: what is in use, without what the allocator keeps for later.
    pub heap: f64,
    pub threads: usize,
    /// The threads of clients: one each.
    pub clients: usize,
    pub files: usize,
}

impl Usage {
    pub fn sample(at: f64) -> Self {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
        let client = |task: &fs::DirEntry| {
            // A thread may end meanwhile.
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            name.starts_with("etcd-blocking")
        };
        Usage {
            at,
            memory: rss_kib() as f64 / 1024.0,
            heap: heap(),
            threads: threads(),
            clients: tasks.filter_map(Result::ok).filter(client).count(),
            files: open_fds(),
        }
    }
}

fn heap() -> f64 {
    let stats = ALLOCATOR.stats();
    // A reallocation is counted in both.
    (stats.bytes_allocated as f64 - stats.bytes_deallocated as f64) / f64::from(1 << 20)
}

/// The slope of a figure in MiB per hour, by least squares.
pub fn slope(samples: &[Usage], of: fn(&Usage) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&Usage) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (at, mib) = (mean(|usage| usage.at), mean(of));
    let (mut above, mut below) = (0.0, 0.0);
    for usage in samples {
        above += (usage.at - at) * (of(usage) - mib);
        below += (usage.at - at) * (usage.at - at);
    }
    if below > 0.0 {
        3600.0 * above / below
    } else {
        0.0
    }
}

#[test]
fn the_slope_of_a_line_is_found_in_noise() {
    let samples = |slope: f64| {
        let sample = |n: u32| Usage {
            at: f64::from(n) * 10.0,
            memory: 50.0 + slope * f64::from(n) / 360.0 + f64::from(n % 2),
            heap: 0.0,
            threads: 1,
            clients: 1,
            files: 1,
        };
        (0..720).map(sample).collect::<Vec<_>>()
    };
    for expected in [0.0, 0.5, 20.0] {
        let found = slope(&samples(expected), |usage| usage.memory);
        assert!((found - expected).abs() < 0.05, "{found} for {expected}");
    }
}

#[test]
fn the_heap_is_what_is_allocated_and_not_freed() {
    // Other tests allocate at the same time, but by far not as much. The memory is never touched.
    let before = heap();
    let mut large = vec![0_u8; 1 << 30];
    let with = heap() - before;
    large.truncate(300 << 20);
    large.shrink_to_fit();
    let shrunk = heap() - before;
    drop(large);
    let without = heap() - before;
    assert!((900.0..1200.0).contains(&with), "{with}");
    assert!((200.0..500.0).contains(&shrunk), "{shrunk}");
    assert!((-150.0..150.0).contains(&without), "{without}");
}

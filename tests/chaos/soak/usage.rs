//! The memory, threads and files of this process.

use std::fs;

use crate::support::wait::{open_fds, rss_kib, threads};

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Seconds since the start.
    pub at: f64,
    /// Resident memory in MiB.
    pub memory: f64,
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
            threads: threads(),
            clients: tasks.filter_map(Result::ok).filter(client).count(),
            files: open_fds(),
        }
    }
}

/// The slope of the memory in MiB per hour, by least squares.
pub fn slope(samples: &[Usage]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&Usage) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (at, memory) = (mean(|usage| usage.at), mean(|usage| usage.memory));
    let (mut above, mut below) = (0.0, 0.0);
    for usage in samples {
        above += (usage.at - at) * (usage.memory - memory);
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
            threads: 1,
            clients: 1,
            files: 1,
        };
        (0..720).map(sample).collect::<Vec<_>>()
    };
    for expected in [0.0, 0.5, 20.0] {
        let found = slope(&samples(expected));
        assert!((found - expected).abs() < 0.05, "{found} for {expected}");
    }
}

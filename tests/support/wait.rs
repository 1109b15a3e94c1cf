//! Bounded waits for conditions, and resource use of this process on Linux.

use std::{
    fs,
    io::ErrorKind,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use etcd_blocking::local::{LocalCluster, LocalEtcd, MemberStatus};

/// Calls `look` every 5 ms until it returns `Some`; panics with `what` after `timeout`.
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

/// All items of a channel until it is disconnected; panics when no item arrives within `timeout`.
pub fn items<T>(receiver: &Receiver<T>, timeout: Duration) -> impl Iterator<Item = T> {
    std::iter::from_fn(move || match receiver.recv_timeout(timeout) {
        Ok(item) => Some(item),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("nothing came in {timeout:?}, and it did not end"),
    })
}

/// The status of a member; repeats the request while the member is busy.
#[track_caller]
pub fn status(member: &LocalEtcd) -> MemberStatus {
    eventually(
        Duration::from_secs(30),
        "the member says its status",
        || member.status().ok(),
    )
}

/// Starts a prepared member that was added to its cluster, and waits until it answers. Like a service manager, it starts
/// the process again when it has ended: etcd exits when it cannot fetch the list of members in time.
#[track_caller]
pub fn join(member: &mut LocalEtcd) {
    member.spawn().unwrap();
    let mut starts = 1;
    eventually(Duration::from_secs(60), "the new member answers", || {
        let running = member.wait_ready(Duration::from_millis(1));
        match running.map_err(|error| (error.kind(), error)) {
            Ok(()) => return Some(()),
            Err((ErrorKind::TimedOut, _)) => {}
            Err((_, error)) => {
                eprintln!("start {starts} of {}: {error}", member.name());
                assert!(starts < 3, "the third start of {}: {error}", member.name());
                member.spawn().unwrap();
                starts += 1;
            }
        }
        // A learner is never ready.
        member.status().ok().map(drop)
    });
}

/// Waits for a leader and returns its index.
#[track_caller]
pub fn leader(cluster: &LocalCluster) -> usize {
    eventually(Duration::from_secs(30), "a leader", || {
        cluster.leader().ok()
    })
}

/// Sets a flag when dropped, also by a panic, so that threads that run until the flag is set also end when a
/// test fails.
#[derive(Debug)]
pub struct Raise<'a>(pub &'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until every other thread of this process was asleep in all samples of 100 ms, so that pending work
/// is done.
///
/// For processes without other tests. A thread that waits for a processor is not asleep, so a busy machine
/// only delays the result.
#[track_caller]
pub fn eventually_all_asleep(timeout: Duration) {
    let mut looks = 0;
    eventually(timeout, "all other threads are asleep", || {
        looks = if all_asleep() { looks + 1 } else { 0 };
        (looks > 20).then_some(())
    });
}

fn all_asleep() -> bool {
    let me = fs::read_link("/proc/thread-self").unwrap();
    let mut tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.all(|task| {
        let task = task.unwrap();
        // The file of a thread that has ended is missing; it counts as asleep.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else {
            return true;
        };
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        Some(&*task.file_name()) == me.file_name() || state == Some('S')
    })
}

/// Number of threads of this process.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Number of open file descriptors of this process.
pub fn open_fds() -> usize {
    // Subtract the descriptor that lists the directory.
    fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Resident memory of this process in KiB.
pub fn rss_kib() -> u64 {
    kib("VmRSS:")
}

/// Resets [`peak_rss_kib`] to the current resident memory (proc(5), clear_refs).
pub fn reset_peak_rss() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Peak resident memory of this process in KiB.
pub fn peak_rss_kib() -> u64 {
    kib("VmHWM:")
}

fn kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time of all threads of this process, in user and kernel mode, in steps of 10 ms.
pub fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // Field 2, the program's name in parentheses, may contain spaces: count from its end. utime and stime are
    // fields 14 and 15 of proc(5), in ticks of 1/100 s (USER_HZ on every Linux that Rust's std supports).
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

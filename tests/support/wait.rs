//! Waiting for conditions, and what Linux knows of this process.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use etcd_blocking::local::{LocalCluster, LocalEtcd, MemberStatus};

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

/// What comes through a channel until it ends; panics when nothing comes for as long as `timeout`.
pub fn items<T>(receiver: &Receiver<T>, timeout: Duration) -> impl Iterator<Item = T> {
    std::iter::from_fn(move || match receiver.recv_timeout(timeout) {
        Ok(item) => Some(item),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("nothing came in {timeout:?}, and it did not end"),
    })
}

/// What a member says of itself; one that is busy may take more than one question.
#[track_caller]
pub fn status(member: &LocalEtcd) -> MemberStatus {
    eventually(
        Duration::from_secs(30),
        "the member says its status",
        || member.status().ok(),
    )
}

/// The index of the member that leads, once one does.
#[track_caller]
pub fn leader(cluster: &LocalCluster) -> usize {
    eventually(Duration::from_secs(30), "a leader", || {
        cluster.leader().ok()
    })
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

/// Waits until every thread of this process but the caller's sleeps, and has been asleep whenever it
/// was looked at for a tenth of a second: whoever was about to do something has done it.
///
/// For processes in which nothing else happens. A thread that only waits for a processor is not
/// asleep, so a busy machine makes this take longer, and not come true too early.
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
        // A thread that has ended meanwhile has no file any more, and does nothing either.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else {
            return true;
        };
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        Some(&*task.file_name()) == me.file_name() || state == Some('S')
    })
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
    kib("VmRSS:")
}

/// Lets [`peak_rss_kib`] begin anew, with what is resident now (proc(5), clear_refs).
pub fn forget_peak_rss() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// The most memory that was ever resident, in KiB.
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

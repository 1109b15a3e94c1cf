//! The children of this process, and which of them it has started itself.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

/// The children of this process by origin, and whether it starts and adopts more.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Those that a [`Group`](super::Group) has started and will reap.
    pub(super) started: BTreeSet<i32>,
    /// Those of the program that was replaced by this one, as in `sidecar & exec etcd-service run ...`.
    pub(super) inherited: BTreeSet<i32>,
    pub(super) adopts: bool,
    /// No child is started any more.
    pub(super) is_closed: bool,
}

/// A child is started, reaped and killed under this lock only, so that no signal goes to a process that has got the
/// number of a child that was reaped.
pub(super) fn ledger() -> MutexGuard<'static, Ledger> {
    static LEDGER: Mutex<Ledger> = Mutex::new(Ledger {
        started: BTreeSet::new(),
        inherited: BTreeSet::new(),
        adopts: false,
        is_closed: false,
    });
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The children of this process, also those that have ended and are not reaped. Elsewhere than on Linux, none are known.
/// Each is looked up when it is asked for, so that it has little time to start a successor before it is killed.
pub(super) fn children() -> impl Iterator<Item = Pid> {
    // One call shows that there are none, the usual case at the end.
    let looks = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let processes = match waitid(WaitId::All, looks) {
        Err(rustix::io::Errno::CHILD) => None,
        _ if !cfg!(target_os = "linux") => None,
        _ => fs::read_dir("/proc").ok(),
    };
    let this = getpid().as_raw_pid();
    processes.into_iter().flatten().filter_map(move |entry| {
        let name = entry.ok()?.file_name();
        let pid = Pid::from_raw(name.to_str()?.parse().ok()?)?;
        // The name of a program may have any bytes.
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        (parent(&String::from_utf8_lossy(&stat))? == this).then_some(pid)
    })
}

/// The parent in a line of `/proc/PID/stat`: the second field after the name, which may have spaces and brackets.
fn parent(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_comes_after_any_name() {
        assert_eq!(parent("7 (sh) S 5 7 7 0 -1"), Some(5));
        assert_eq!(parent("7 (a) S 1 (b) c) Z 6 7 7 0"), Some(6));
        assert_eq!((parent(""), parent("7 (sh) S")), (None, None));
    }
}

//! The orphans of commands: processes whose parent has ended, such as those that began a session of their own.
//!
//! On Linux this process can become the parent of the orphans of all its descendants. Killing its children until there
//! are none then ends all descendants: the children of a killed process become children of this one.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, waitid,
    waitpid,
};

use super::children::{Ledger, children, ledger};

/// An orphan that has ended is reaped within this time.
const REAP: Duration = Duration::from_millis(100);
/// The time between two rounds of killing.
const ROUND: Duration = Duration::from_millis(3);
/// The longest wait for children at the end of this process.
const END: Duration = Duration::from_secs(1);

/// The orphans of one round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orphans {
    /// Those that were killed or have ended; their children are found by the next round.
    pub(super) killed: usize,
    /// Those of users whose processes this one may not kill.
    pub(super) refused: usize,
}

/// Makes this process the parent of the orphans of its descendants, and reaps them when they have ended. Does nothing
/// elsewhere than on Linux.
pub(super) fn adopt() -> io::Result<()> {
    let mut ledger = ledger();
    if ledger.adopts || !cfg!(target_os = "linux") {
        return Ok(());
    }
    ledger.inherited = children().map(Pid::as_raw_pid).collect();
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let thread = thread::Builder::new().name("orphans".into());
    thread.spawn(reap_for_ever)?;
    ledger.adopts = true;
    Ok(())
}

fn reap_for_ever() {
    loop {
        // It returns at once while a child that another thread reaps has ended, and when there is none.
        let _ = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        thread::sleep(REAP);
        let mut ledger = ledger();
        for pid in children() {
            if !ledger.started.contains(&pid.as_raw_pid()) && has_ended(pid) {
                ledger.inherited.remove(&pid.as_raw_pid());
            }
        }
    }
}

/// Reaps a child that has ended.
fn has_ended(pid: Pid) -> bool {
    matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_)))
}

/// Kills the orphans that there are now, once.
pub(super) fn kill() -> Orphans {
    let ledger = ledger();
    round(&ledger, |number| ledger.started.contains(&number))
}

/// Kills orphans until there are none, and returns the number of those that cannot be killed.
pub(super) fn end() -> usize {
    loop {
        let orphans = kill();
        if orphans.killed == 0 {
            return orphans.refused;
        }
        thread::sleep(ROUND);
    }
}

/// Kills all commands and orphans of this process, which is about to end, and lets nobody start further ones.
pub(crate) fn end_all() {
    let begun = Instant::now();
    loop {
        let mut ledger = ledger();
        ledger.is_closed = true;
        if ledger.started.is_empty() && !ledger.adopts {
            return;
        }
        for pid in ledger.started.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let orphans = round(&ledger, |_| false);
        drop(ledger);
        if orphans.killed == 0 || begun.elapsed() >= END {
            return;
        }
        thread::sleep(ROUND);
    }
}

/// Kills children of this process with their groups. A child that is not reaped has its number for itself, also as the
/// number of its group.
fn round(ledger: &Ledger, spares: impl Fn(i32) -> bool) -> Orphans {
    let mut orphans = Orphans::default();
    for pid in children() {
        let number = pid.as_raw_pid();
        if spares(number) || ledger.inherited.contains(&number) {
            continue;
        }
        if !ledger.started.contains(&number) && has_ended(pid) {
            orphans.killed += 1;
            continue;
        }
        let _ = kill_process_group(pid, Signal::KILL);
        match kill_process(pid, Signal::KILL) {
            Err(rustix::io::Errno::PERM) => orphans.refused += 1,
            _ => orphans.killed += 1,
        }
    }
    orphans
}

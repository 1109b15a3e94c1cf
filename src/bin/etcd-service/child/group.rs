//! A command in a process group of its own, which is killed with its children.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, kill_process_group, waitid,
};

use super::children::ledger;

/// A command in a process group of its own. At its end, what it has left behind in the group is killed. It is killed
/// when this is dropped before.
#[derive(Debug)]
pub(crate) struct Group {
    pid: Pid,
    /// The group, unless the command is in that of this process.
    own: Option<Pid>,
    child: Mutex<Reaped>,
}

#[derive(Debug)]
struct Reaped {
    child: Child,
    status: Option<ExitStatus>,
}

impl Group {
    /// Starts the command in a group of its own.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let mut group = Self::start_here(command.process_group(0))?;
        group.own = Some(group.pid);
        Ok(group)
    }

    /// Starts the command in the group of this process, which is killed together with it.
    pub(super) fn start_here(command: &mut Command) -> io::Result<Self> {
        let mut ledger = ledger();
        if ledger.is_closed {
            return Err(io::Error::other("this process is about to end"));
        }
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        ledger.started.insert(pid.as_raw_pid());
        let reaped = Reaped {
            child,
            status: None,
        };
        Ok(Group {
            pid,
            own: None,
            child: Mutex::new(reaped),
        })
    }

    /// Its status, once it has ended.
    pub(crate) fn ended(&self) -> io::Result<Option<ExitStatus>> {
        self.look(WaitIdOptions::NOHANG)
    }

    /// Waits for its end.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.look(WaitIdOptions::empty())? {
                return Ok(status);
            }
        }
    }

    /// Sends a signal to the command alone.
    pub(super) fn signal(&self, signal: Signal) {
        self.while_running(|| {
            let _ = kill_process(self.pid, signal);
        });
    }

    /// Sends a signal to the command and what is in its group.
    pub(super) fn signal_all(&self, signal: Signal) {
        self.while_running(|| self.send(signal));
    }

    /// Kills the command and what is in its group.
    pub(crate) fn kill(&self) {
        self.signal_all(Signal::KILL);
    }

    fn send(&self, signal: Signal) {
        let _ = kill_process_group(self.own.unwrap_or_else(getpid), signal);
    }

    /// Calls `act` unless the command was reaped, after which others can have its number.
    fn while_running(&self, act: impl FnOnce()) {
        let _ledger = ledger();
        let reaped = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if reaped.status.is_none() {
            act();
        }
    }

    fn look(&self, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        if self.is_unreaped() {
            match waitid(
                WaitId::Pid(self.pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | options,
            ) {
                Ok(None) | Err(rustix::io::Errno::INTR) => return Ok(None),
                Ok(Some(_)) | Err(_) => {}
            }
        }
        self.reap().map(Some)
    }

    fn is_unreaped(&self) -> bool {
        let reaped = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        reaped.status.is_none()
    }

    /// Reaps the command, which has ended or was killed. Its group is killed before: until then nobody else gets the
    /// number.
    fn reap(&self) -> io::Result<ExitStatus> {
        let mut ledger = ledger();
        let mut reaped = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = reaped.status {
            return Ok(status);
        }
        if self.own.is_some() {
            self.send(Signal::KILL);
        }
        let status = reaped.child.wait();
        ledger.started.remove(&self.pid.as_raw_pid());
        reaped.status = Some(status?);
        Ok(reaped.status.unwrap_or_default())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.is_unreaped() {
            self.kill();
            let _ = self.wait();
        }
    }
}

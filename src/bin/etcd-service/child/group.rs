//! A running command in a process group of its own, which is killed with its children.

use std::io;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, Signal, kill_process_group};

/// A command that is killed with its children when it is dropped before its end. It must have been started in a
/// process group of its own.
pub(crate) struct Running {
    child: Child,
    status: Option<ExitStatus>,
}

impl Running {
    pub(crate) fn new(child: Child) -> Self {
        Running {
            child,
            status: None,
        }
    }

    /// Its status, once it has ended.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

//! A command that runs under supervision.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use etcd_blocking::crossbeam_channel::{Receiver, bounded};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, waitid};

use super::order::Order;
use super::stage::STAGE;
use crate::failure::Failure;

/// A command that runs under supervision. It is killed with its children when this is dropped.
pub(crate) struct Supervised {
    orders: PipeWriter,
    /// The stage opens it by its number.
    _reader: PipeReader,
    group: Pid,
    ended: Receiver<u8>,
}

impl Supervised {
    /// Starts a command with more variables in its environment. If this process dies, the command gets SIGTERM, and
    /// SIGKILL after `grace`. `until` is as in [`until`](Supervised::until), from the beginning.
    pub(crate) fn start(
        command: &[OsString],
        variables: &[(&str, String)],
        grace: Duration,
        until: Option<(Duration, Duration)>,
    ) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::failed(format!("start the command: {error}"));
        let (reader, mut orders) = io::pipe().map_err(failed)?;
        // A stage that is stopped reads nothing, and must not stop this process, too.
        rustix::io::ioctl_fionbio(&orders, true).map_err(|error| failed(error.into()))?;
        if let Some((term, kill)) = until {
            let first = Order::Until { term, kill }.line();
            orders.write_all(first.as_bytes()).map_err(failed)?;
        }
        let mut stage = Command::new(std::env::current_exe().map_err(failed)?);
        stage.arg0("etcd-service").arg(STAGE);
        if cfg!(target_os = "linux") {
            let pid = getpid().as_raw_nonzero();
            stage.arg(format!("{pid}/{}", reader.as_raw_fd()));
        } else {
            stage
                .arg("-")
                .stdin(Stdio::from(reader.try_clone().map_err(failed)?));
        }
        stage
            .arg(grace.as_millis().to_string())
            .arg("--")
            .args(command);
        stage.envs(variables.iter().map(|(name, value)| (name, value)));
        let mut stage = stage.process_group(0).spawn().map_err(failed)?;
        let group = Pid::from_child(&stage);
        let (sender, ended) = bounded(1);
        let wait = move || {
            // The group is killed before the stage is reaped: until then its number is not used again.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(group), options) {}
            let _ = kill_process_group(group, Signal::KILL);
            let status = stage.wait();
            let code = status.ok().and_then(|status| status.code());
            // A stage without an exit code was killed together with the command.
            let code = code
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(128 + 9);
            let _ = sender.send(code);
        };
        thread::Builder::new()
            .name("command".into())
            .spawn(wait)
            .map_err(failed)?;
        Ok(Supervised {
            orders,
            _reader: reader,
            group,
            ended,
        })
    }

    /// Receives the exit code of the command, or 128 and the number of the signal that ended it.
    pub(crate) fn ended(&self) -> &Receiver<u8> {
        &self.ended
    }

    /// Sends a signal to the command.
    pub(crate) fn signal(&mut self, signal: i32) {
        self.order(Order::Signal(signal));
    }

    /// Ends the command: SIGTERM, and SIGKILL after `grace`.
    pub(crate) fn stop(&mut self, grace: Duration) {
        self.order(Order::Stop(grace));
    }

    /// Sets the times of the boot clock at which the command is ended, unless they are put off before.
    pub(crate) fn until(&mut self, term: Duration, kill: Duration) {
        self.order(Order::Until { term, kill });
    }

    /// Kills the command and its children at once.
    pub(crate) fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }

    fn order(&mut self, order: Order) {
        // It fails when the command has ended, which is reported by `ended`, or when the stage is stopped.
        let _ = self.orders.write_all(order.line().as_bytes());
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.ended.try_recv().is_err() {
            self.kill();
        }
    }
}

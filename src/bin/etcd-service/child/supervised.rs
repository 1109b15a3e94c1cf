//! A command that runs under supervision.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use etcd_blocking::crossbeam_channel::{Receiver, bounded};
use rustix::process::getpid;

use super::group::Group;
use super::order::Order;
use super::orphans;
use super::stage::STAGE;
use crate::failure::Failure;

/// A command that runs under supervision. It is killed when this is dropped.
pub(crate) struct Supervised {
    orders: PipeWriter,
    /// The stage opens it by its number.
    _reader: PipeReader,
    stage: Arc<Group>,
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
        // What is left of a command whose stage was killed comes to this process.
        orphans::adopt().map_err(failed)?;
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
        let stage = Arc::new(Group::start(&mut stage).map_err(failed)?);
        let (sender, ended) = bounded(1);
        let waited = Arc::clone(&stage);
        let wait = move || {
            let status = waited.wait();
            orphans::end();
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
            stage,
            ended,
        })
    }

    /// Receives the exit code of the command, or 128 and the number of the signal that ended it. Nothing of the command
    /// runs any more then.
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

    /// Kills the stage and what it has started, also while the stage is stopped.
    pub(crate) fn kill(&self) {
        self.stage.kill();
    }

    fn order(&mut self, order: Order) {
        // It fails when the command has ended, which is reported by `ended`, or when the stage is stopped.
        let _ = self.orders.write_all(order.line().as_bytes());
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill();
    }
}

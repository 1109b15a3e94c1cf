//! A child process of the demonstration that runs the service.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::timeline::Timeline;

/// A child process, killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts this program as a service. Its lines are printed with the time.
    pub(crate) fn start(
        name: &'static str,
        endpoint: &str,
        timeline: Timeline,
    ) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", name, endpoint])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    timeline.say(format_args!("  {name}: {line}"));
                }
            });
        }
        Ok(Process(child))
    }

    /// `kill -9`.
    pub(crate) fn kill_dash_9(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }

    /// Writes a line to its stdin: `fail` or `recover`.
    pub(crate) fn tell(&mut self, line: &str) -> io::Result<()> {
        match &mut self.0.stdin {
            Some(stdin) => writeln!(stdin, "{line}"),
            None => Ok(()),
        }
    }

    /// Closes its stdin, which makes it leave.
    pub(crate) fn ask_to_leave(&mut self) {
        self.0.stdin = None;
    }

    /// Whether it has ended, with exit code 0.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(status)) if status.success())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill_dash_9();
    }
}

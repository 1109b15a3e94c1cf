//! Runs a peer as a process, with a time limit.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use peers::Failure;
use peers::report::Report;

/// A peer that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
    deadline: Instant,
}

impl Peer {
    pub(crate) fn start(mut command: Command, limit: Duration) -> Result<Self, Failure> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (lines, errors) = (read(child.stdout.take()), read(child.stderr.take()));
        Ok(Self {
            child,
            lines,
            errors,
            deadline: Instant::now() + limit,
        })
    }

    /// The next line that begins with this; other output of the peer is passed over.
    fn line(&mut self, begin: &str) -> Result<String, Failure> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with('{') || line.starts_with(begin) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err("no result in time".into()),
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.child.wait();
                    let said: Vec<String> = self.errors.iter().collect();
                    let said = said.iter().find(|line| !line.trim().is_empty());
                    return Err(said
                        .map_or("it ended without a result", String::as_str)
                        .into());
                }
            }
        }
    }

    /// Waits until the peer says that it is ready. The other case is that it has a result already.
    pub(crate) fn ready(&mut self) -> Result<Option<Report>, Failure> {
        let line = self.line("ready")?;
        if line.starts_with('{') {
            Ok(Some(serde_json::from_str(&line)?))
        } else {
            Ok(None)
        }
    }

    pub(crate) fn report(&mut self) -> Result<Report, Failure> {
        Ok(serde_json::from_str(&self.line("{")?)?)
    }

    /// The resident memory, in KiB.
    pub(crate) fn resident(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// The voluntary context switches of all threads: a thread that was woken goes back to sleep.
    pub(crate) fn wakeups(&self) -> Option<f64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let counts = tasks.filter_map(|task| {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<f64>().ok()
        });
        Some(counts.sum())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread.
fn read(pipe: Option<impl std::io::Read + Send + 'static>) -> Receiver<String> {
    let (sender, lines) = channel();
    if let Some(pipe) = pipe {
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    lines
}

//! Runs the program, reads what it prints line by line, and bounds every wait.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::crossbeam_channel::{Receiver, unbounded};
use etcd_blocking::local::LocalEtcd;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::wait::eventually;

/// The longest wait for something that usually takes less than a second.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The command `etcd-service ARGS`, without the variables of the environment that etcdctl has.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-service"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    command
}

/// The same, for this etcd.
pub(crate) fn command_for(etcd: &LocalEtcd, args: &[&str]) -> Command {
    let mut command = command(args);
    command.env("ETCDCTL_ENDPOINTS", etcd.endpoint());
    command
}

/// A running program. It is killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    /// Disconnected at the end of stderr.
    stderr_end: Receiver<()>,
    ended: Option<ExitStatus>,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; 128 and the number of the signal that killed it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = unbounded();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let (end, stderr_end) = unbounded();
        let (mut pipe, text) = (child.stderr.take().unwrap(), Arc::clone(&stderr));
        thread::spawn(move || {
            let _end = end;
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut bytes) {
                let mut text = text.lock().unwrap();
                text.push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Program {
            child,
            lines,
            stderr,
            stderr_end,
            ended: None,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The next line of stdout.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        match self.lines.recv_timeout(SOON) {
            Ok(line) => line,
            Err(error) => panic!("no line: {error}; stderr: {}", self.stderr()),
        }
    }

    /// The first of the next lines of stdout that contains the text.
    #[track_caller]
    pub(crate) fn line_with(&self, text: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.lines.recv_timeout(SOON) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!(
                    "no line with {text:?}: {error}; stdout: {before:?}; stderr: {}",
                    self.stderr()
                ),
            }
        }
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until stderr contains the text.
    #[track_caller]
    pub(crate) fn complains(&self, text: &str) {
        let begun = Instant::now();
        while !self.stderr().contains(text) {
            assert!(
                begun.elapsed() < SOON,
                "no {text:?} in stderr: {}",
                self.stderr()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it has ended. The output is what was not read before.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        self.ended_within(SOON)
    }

    #[track_caller]
    pub(crate) fn ended_within(&mut self, limit: Duration) -> Ended {
        let what = format!("the program ends; stderr: {}", self.stderr());
        let child = &mut self.child;
        let status = eventually(limit, &what, || child.try_wait().unwrap());
        self.ended = Some(status);
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        let mut stdout = String::new();
        // Its children may have the pipe still open: what has arrived is enough then.
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
            stdout.extend([line.as_str(), "\n"]);
        }
        let _ = self.stderr_end.recv_timeout(Duration::from_millis(500));
        Ended {
            code: code.unwrap(),
            stdout,
            stderr: self.stderr(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs the program to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ended {
    Program::start(command).ended()
}

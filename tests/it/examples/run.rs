//! Runs an example and checks its output.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::crossbeam_channel::{Receiver, unbounded};
use etcd_blocking::local::LocalEtcd;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::wait::eventually;

pub(super) const SOON: Duration = Duration::from_secs(30);

/// A process of an example; killed when dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    lines: Receiver<String>,
    stderr: Receiver<String>,
}

/// An etcd, and the service `web` on it with one codec.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) etcd: LocalEtcd,
    codec: &'static str,
}

impl Scene {
    pub(super) fn new(codec: &'static str) -> Self {
        let etcd = LocalEtcd::start().unwrap();
        Scene { etcd, codec }
    }

    pub(super) fn register(&self, addr: &str, more: &[&str]) -> Running {
        let args = ["--service", "web", "--addr", addr, "--codec", self.codec];
        self.run("register", &[&args, more].concat())
    }

    pub(super) fn discover(&self, more: &[&str]) -> Running {
        let args = ["--service", "web", "--codec", self.codec];
        self.run("discover", &[&args, more].concat())
    }

    fn run(&self, name: &str, args: &[&str]) -> Running {
        Running::start(name, args, &[("ETCD_ENDPOINTS", &self.etcd.endpoint())])
    }
}

impl Running {
    pub(super) fn start(name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_and_read(usize::MAX, name, args, env)
    }

    /// Closes its stdout after `most` lines.
    pub(super) fn start_and_read(
        most: usize,
        name: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let mut child = Command::new(path(name))
            .args(args)
            .env_remove("ETCD_ENDPOINTS")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = unbounded();
        let mut stdout = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .take(most);
        thread::spawn(move || {
            let _ = stdout.try_for_each(|line| sender.send(line.unwrap()));
            // Before the channel, whose end means that it is closed.
            drop(stdout);
        });
        let (sender, stderr) = unbounded();
        let mut pipe = child.stderr.take().unwrap();
        thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            sender.send(text)
        });
        Running {
            child,
            lines,
            stderr,
        }
    }

    /// The next line that `wanted` accepts.
    #[track_caller]
    pub(super) fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + SOON;
        let mut others = Vec::new();
        loop {
            match self.lines.recv_deadline(deadline) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => others.push(line),
                Err(_) => panic!("no such line, only {others:#?}"),
            }
        }
    }

    /// Waits until its stdout is closed on this side.
    pub(super) fn unread(&self) {
        assert!(
            self.lines
                .recv_timeout(SOON)
                .is_err_and(|error| error.is_disconnected())
        );
    }

    /// The memory that it uses now.
    pub(super) fn resident_kib(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.unwrap().trim().trim_end_matches(" kB");
        kib.parse().unwrap()
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its exit; returns the exit code, the unread lines, and stderr.
    #[track_caller]
    pub(super) fn finish(mut self, within: Duration) -> (Option<i32>, Vec<String>, String) {
        let status = eventually(within, "the example ends", || {
            self.child.try_wait().unwrap()
        });
        let lines = self.lines.iter().collect();
        (status.code(), lines, self.stderr.recv().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a program, given as such or by the name of an example. Cargo puts examples next to the directory
/// of the tests.
fn path(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    // An absolute path replaces the rest.
    path.push(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build --examples",
        path.display()
    );
    path
}

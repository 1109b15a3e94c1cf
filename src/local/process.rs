//! One etcd process: directory, log, start, signals and end.

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{binary::Binary, flags::Flags};

/// Maximum number of bytes of the log in an error text.
const TAIL: u64 = 4096;
/// Time limit for the suspension of all threads after SIGSTOP.
#[cfg(unix)]
const PAUSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which a condition is checked again.
pub(super) const POLL: Duration = Duration::from_millis(5);

/// An etcd process in a directory of its own; it may be started again after it has ended.
#[derive(Debug)]
pub(super) struct Process {
    binary: Binary,
    dir: PathBuf,
    child: Option<Child>,
}

impl Process {
    pub(super) fn new(binary: Binary) -> io::Result<Self> {
        Ok(Self {
            binary,
            dir: private_dir()?,
            child: None,
        })
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("etcd.log")
    }

    pub(super) fn spawn(&mut self, flags: &Flags) -> io::Result<()> {
        if self.exit_status()?.is_none() && self.child.is_some() {
            return Err(io::Error::other("etcd is running already"));
        }
        // Appended, so that the log of a crash is kept after a restart.
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.binary.path);
        command.args(flags.args(&self.data_dir(), self.binary.since_3_5));
        // etcd reads flags from ETCD_* as well, and warns of unknown names, such as ETCD_BIN.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") && name != "ETCD_UNSUPPORTED_ARCH" {
                command.env_remove(name);
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("could not start {}: {error}", self.binary.path.display()),
            )
        })?;
        self.child = Some(child);
        Ok(())
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The exit status, if the process has ended. The child is then dropped, because the system may reuse
    /// its pid.
    pub(super) fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        // The pid may be reused after this, so it must not be signalled any more.
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Kills and reaps the process; does nothing when it does not run.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        child.kill()?;
        // Reaps the process: its ports and files are free when this returns.
        child.wait().map(drop)
    }

    #[cfg(unix)]
    pub(super) fn signal(&self, signal: rustix::process::Signal) -> io::Result<()> {
        let child = self.child.as_ref().ok_or_else(not_running)?;
        Ok(rustix::process::kill_process(
            rustix::process::Pid::from_child(child),
            signal,
        )?)
    }

    /// Sends SIGSTOP and waits for its effect: the threads of a process stop one by one after the signal
    /// was sent.
    #[cfg(unix)]
    pub(super) fn pause(&self) -> io::Result<()> {
        use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
        self.signal(Signal::STOP)?;
        let child = WaitId::Pid(Pid::from_child(
            self.child.as_ref().ok_or_else(not_running)?,
        ));
        // NOWAIT keeps the stopped state readable, so pausing a paused process works; SIGCONT clears it.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let deadline = Instant::now() + PAUSE_TIMEOUT;
        while waitid(child.clone(), stopped)?.is_none() {
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the etcd process has ended, or did not stop after SIGSTOP",
                ));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends SIGTERM, and SIGKILL when the process has not ended after `timeout`.
    pub(super) fn stop(&mut self, timeout: Duration) -> io::Result<()> {
        #[cfg(unix)]
        if self.child.is_some() {
            self.signal(rustix::process::Signal::TERM)?;
            // A paused process handles SIGTERM only after SIGCONT.
            self.signal(rustix::process::Signal::CONT)?;
            let deadline = Instant::now() + timeout;
            while self.exit_status()?.is_none() && self.child.is_some() && Instant::now() < deadline
            {
                thread::sleep(POLL);
            }
        }
        self.kill()
    }

    pub(super) fn wipe(&mut self) -> io::Result<()> {
        if self.exit_status()?.is_none() && self.child.is_some() {
            return Err(io::Error::other(
                "the data of a running etcd cannot be wiped; kill or stop it first",
            ));
        }
        match fs::remove_dir_all(self.data_dir()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn log_tail(&self) -> String {
        tail(&self.log()).unwrap_or_else(|error| format!("(no log: {error})"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A destructor cannot report an error.
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(super) fn not_running() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "etcd is not running; start it with spawn() or restart()",
    )
}

/// A new directory that only this user can read.
fn private_dir() -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // The random part avoids a directory that a killed process with the same pid has left.
    let random = RandomState::new().hash_one(count);
    let dir = std::env::temp_dir().join(format!("etcd-blocking-{}-{count}-{random:016x}", id()));
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(&dir)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
    Ok(dir)
}

/// The last whole lines of a file, at most [`TAIL`] bytes.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = if start == 0 {
        &*text
    } else {
        text.split_once('\n').map_or("", |(_, rest)| rest)
    };
    Ok(whole.trim_end().to_owned())
}

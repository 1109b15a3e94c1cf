//! One etcd server.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use super::{
    binary::Binary,
    flags::Flags,
    http,
    process::{POLL, Process, not_running},
    start::LocalEtcdBuilder,
    status::{self, MemberStatus},
};

/// How long a start may take: far more than it takes on a machine that is not overloaded.
pub(super) const READY: Duration = Duration::from_secs(30);
/// How long one question to a server may take.
const ASK: Duration = Duration::from_secs(1);
/// How long an etcd that was asked to stop may take.
const STOP: Duration = Duration::from_secs(5);

/// A real etcd process of your own, killed and cleaned up when dropped.
///
/// It keeps its ports, its name and its ids over any number of [`restart`](Self::restart)s, as a
/// server in the field does. The shortest lease it grants is 1 s; an etcd with default flags makes
/// that 2 s.
///
/// ```no_run
/// use etcd_blocking::local::LocalEtcd;
///
/// let mut etcd = LocalEtcd::start()?;
/// etcd.pause()?; // it accepts connections and says nothing
/// etcd.resume()?;
/// etcd.restart()?; // same ports, same data
/// etcd.restart_wiped()?; // same ports, same ids, no data
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LocalEtcd {
    flags: Flags,
    process: Process,
}

impl LocalEtcd {
    /// Starts a single server and returns when it is ready.
    ///
    /// Blocks a fraction of a second, and never longer than 30 s.
    ///
    /// # Errors
    ///
    /// When the program cannot be run, ends at once, or is not ready in time; the text holds the
    /// end of etcd's log.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A server with flags of your own.
    pub fn builder() -> LocalEtcdBuilder {
        LocalEtcdBuilder::new()
    }

    pub(super) fn prepare(binary: &Binary, flags: Flags) -> io::Result<Self> {
        Ok(Self {
            flags,
            process: Process::new(binary.clone())?,
        })
    }

    /// The URL for clients, `http://127.0.0.1:PORT`; `https` when a `--cert-file` was given.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.flags.scheme(), self.flags.client)
    }

    /// The address for clients.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.flags.client
    }

    /// The URL for its peers, as other members know it.
    #[must_use]
    pub fn peer_url(&self) -> String {
        format!("http://{}", self.flags.peer_advertised)
    }

    pub(super) fn peer(&self) -> (String, SocketAddr) {
        (self.flags.name.clone(), self.flags.peer_advertised)
    }

    /// The name of this member.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.flags.name
    }

    /// The process id; [`None`] after [`kill`](Self::kill) or [`stop`](Self::stop).
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Where the data is; the directory is removed when this value is dropped.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.process.data_dir()
    }

    /// The last lines of etcd's log (warnings and worse), at most 4 KiB.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Asks the server for its own view: its id, the leader it knows, its revision and term.
    ///
    /// Blocks 1 s at most. Authentication and TLS do not stand in the way; but of a server whose client
    /// port is under TLS only its own leadership is known: its term reads 0, and so does the leader,
    /// unless it is this one.
    ///
    /// # Errors
    ///
    /// When the server does not answer in time.
    pub fn status(&self) -> io::Result<MemberStatus> {
        let raft = self.flags.metrics.is_none().then_some(self.flags.client);
        status::ask(self.flags.health(), raft, ASK)
    }

    /// Stops the process where it stands (SIGSTOP): connections stay open and are accepted, and
    /// nothing answers.
    ///
    /// When it returns, no thread of the process runs any more.
    ///
    /// # Errors
    ///
    /// When the server is not running.
    #[cfg(unix)]
    pub fn pause(&self) -> io::Result<()> {
        self.process.pause()
    }

    /// Lets a paused process run on (SIGCONT); no effect on one that runs.
    ///
    /// # Errors
    ///
    /// When the server is not running.
    #[cfg(unix)]
    pub fn resume(&self) -> io::Result<()> {
        self.process.signal(rustix::process::Signal::CONT)
    }

    /// Kills the process (SIGKILL) and waits for its end, as a crash would end it; the data stays.
    ///
    /// No effect when the server is not running. A paused server is killed too.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Asks the process to end (SIGTERM) and waits for its end; the data stays.
    ///
    /// Blocks 5 s at most: a server that has not ended by then is killed. No effect when the server
    /// is not running.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn stop(&mut self) -> io::Result<()> {
        self.process.stop(STOP)
    }

    /// Starts the process again on the same ports and data, and does not wait for it; see
    /// [`wait_ready`](Self::wait_ready).
    ///
    /// # Errors
    ///
    /// When the server is running, or the program cannot be run.
    pub fn spawn(&mut self) -> io::Result<()> {
        self.process.spawn(&self.flags)
    }

    /// Waits until the server says that it is healthy: it knows a leader and serves linearizable
    /// reads.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) when the server is not running,
    /// [`TimedOut`](io::ErrorKind::TimedOut) when it is not ready in time, and
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) when it ended because another process has one of its
    /// ports. The text holds the end of etcd's log.
    pub fn wait_ready(&mut self, timeout: Duration) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        if self.process.pid().is_none() {
            return Err(not_running());
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = http::get(self.flags.health(), "/health", left.clamp(POLL, ASK));
            // Asked last: when the port is another server's, the answer is that server's, and our
            // own is about to end.
            if let Some(status) = self.process.exit_status()? {
                return Err(self.ended(&status.to_string()));
            }
            let last = match answer {
                Ok(reply) if reply.body.replace(' ', "").contains(r#""health":"true""#) => {
                    return Ok(());
                }
                Ok(reply) => format!("HTTP {} {}", reply.status, reply.body.trim()),
                Err(error) => error.to_string(),
            };
            if left.is_zero() {
                let text = format!(
                    "{} was not ready in {timeout:?} (last: {last})",
                    self.flags.name
                );
                return Err(self.with_log(io::ErrorKind::TimedOut, &text));
            }
            thread::sleep(POLL);
        }
    }

    /// Kills the server if it runs, and starts it on the same ports and data; returns when it is
    /// ready.
    ///
    /// Blocks 30 s at most.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.spawn()?;
        self.wait_ready(READY)
    }

    /// Removes all data of a server that is not running: it will start empty, with the ids it had.
    ///
    /// # Errors
    ///
    /// When the server is running, or the files cannot be removed.
    pub fn wipe(&mut self) -> io::Result<()> {
        self.process.wipe()
    }

    /// Kills the server if it runs, removes all data and starts it on the same ports, with the same
    /// ids; returns when it is ready.
    ///
    /// This is what a disk that was lost looks like to a client: cluster id, member id and term are
    /// as before, and the revision is 1 again. Blocks 30 s at most.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart_wiped(&mut self) -> io::Result<()> {
        self.kill()?;
        self.wipe()?;
        self.spawn()?;
        self.wait_ready(READY)
    }

    fn ended(&self, status: &str) -> io::Error {
        let in_use = self.log_tail().contains("address already in use");
        let kind = if in_use {
            io::ErrorKind::AddrInUse
        } else {
            io::ErrorKind::Other
        };
        self.with_log(
            kind,
            &format!("{} ended before it was ready ({status})", self.flags.name),
        )
    }

    fn with_log(&self, kind: io::ErrorKind, text: &str) -> io::Error {
        io::Error::new(
            kind,
            format!("etcd {text}; its log ends:\n{}", self.log_tail()),
        )
    }
}

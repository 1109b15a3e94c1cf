//! Handle of one etcd server.

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
    ports::Reserved,
    process::{POLL, Process, not_running},
    ready::{self, Ready},
    status::{self, MemberStatus},
};

/// Time limit of a start; a start takes a fraction of a second unless the machine is overloaded.
pub(super) const READY: Duration = Duration::from_secs(30);
/// Time limit of one health or status request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit of a graceful stop.
const STOP: Duration = Duration::from_secs(5);

/// Private etcd process; dropping it kills the process and removes its directory.
///
/// The server keeps its ports, name and ids over any number of [`restart`](Self::restart)s. The shortest
/// TTL that it grants is 1 s (2 s with etcd's default flags, because etcd derives the minimum from the
/// election timeout).
///
/// ```no_run
/// use etcd_blocking::local::LocalEtcd;
///
/// let mut etcd = LocalEtcd::start()?;
/// etcd.pause()?; // accepts connections and does not answer
/// etcd.resume()?;
/// etcd.restart()?; // same ports, same data
/// etcd.restart_wiped()?; // same ports, same ids, no data
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LocalEtcd {
    flags: Flags,
    process: Process,
    /// Kept while the process is stopped.
    _ports: Vec<Reserved>,
}

impl LocalEtcd {
    pub(super) fn prepare(binary: &Binary, flags: Flags) -> io::Result<Self> {
        Ok(Self {
            _ports: flags
                .listens()
                .map(Reserved::new)
                .collect::<io::Result<_>>()?,
            flags,
            process: Process::new(binary.clone())?,
        })
    }

    /// The URL for clients: `http://127.0.0.1:PORT`, or `https://127.0.0.1:PORT` with TLS.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.flags.scheme(), self.flags.client)
    }

    /// The address for clients.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.flags.client
    }

    /// The URL that other members dial.
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

    /// The data directory; it is removed when this value is dropped.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.process.data_dir()
    }

    /// The last lines of etcd's log (level `warn` and above), at most 4 KiB.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Requests the server's own status: its id, the leader that it knows, its revision and term.
    ///
    /// Blocks for 1 s at most. It works with authentication and TLS enabled. With TLS on the client port,
    /// `raft_term` is 0, and `leader` is 0 unless this member is the leader.
    ///
    /// # Errors
    ///
    /// Fails when the server does not answer in time.
    pub fn status(&self) -> io::Result<MemberStatus> {
        // `/debug/vars` is on the client port only, which needs a certificate under TLS.
        let raft = self.flags.metrics.is_none().then_some(self.flags.client);
        status::request(self.flags.health(), raft, REQUEST_TIMEOUT)
    }

    /// Suspends the process (SIGSTOP): connections stay open, the system accepts new ones, and the server
    /// does not answer.
    ///
    /// When this returns, all threads of the process are suspended. Blocks for 10 s at most.
    ///
    /// # Errors
    ///
    /// Fails when the server is not running.
    #[cfg(unix)]
    pub fn pause(&self) -> io::Result<()> {
        self.process.pause()
    }

    /// Resumes a paused process (SIGCONT); has no effect on a running one.
    ///
    /// # Errors
    ///
    /// Fails when the server is not running.
    #[cfg(unix)]
    pub fn resume(&self) -> io::Result<()> {
        self.process.signal(rustix::process::Signal::CONT)
    }

    /// Kills the process (SIGKILL) and waits until it has ended, as after a crash; the data stays.
    ///
    /// Has no effect when the server is not running. Works on a paused server too.
    ///
    /// # Errors
    ///
    /// Fails when the operating system refuses the signal.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Terminates the process gracefully (SIGTERM) and waits until it has ended; the data stays.
    ///
    /// Blocks for 5 s at most: a server that has not ended by then is killed. Has no effect when the
    /// server is not running.
    ///
    /// # Errors
    ///
    /// Fails when the operating system refuses the signal.
    pub fn stop(&mut self) -> io::Result<()> {
        self.process.stop(STOP)
    }

    /// Starts the process again on the same ports and data, and returns at once. Call
    /// [`wait_ready`](Self::wait_ready) to wait for it.
    ///
    /// # Errors
    ///
    /// Fails when the server is running, or the program cannot be run.
    pub fn spawn(&mut self) -> io::Result<()> {
        self.process.spawn(&self.flags)
    }

    /// Blocks until the server reports that it is healthy (it has a leader and serves linearizable reads)
    /// and that its cluster has decided its version.
    ///
    /// etcd decides the version of a new cluster some milliseconds after it is healthy. The process of a member
    /// that was added before exits.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected) when the server is not running,
    /// [`TimedOut`](io::ErrorKind::TimedOut) when it is not ready in time, and
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) when it ended because another process uses one of its
    /// ports. The text contains the last lines of etcd's log.
    pub fn wait_ready(&mut self, timeout: Duration) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        if self.process.pid().is_none() {
            return Err(not_running());
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A short limit, because the first requests may come before etcd listens.
            let limit = left.clamp(POLL, REQUEST_TIMEOUT);
            let answer = ready::request(self.flags.health(), self.flags.peer, limit);
            // Check this last: if another server has the port, the answer is from that server, and this
            // process is about to end.
            if let Some(status) = self.process.exit_status()? {
                return Err(self.ended(&status.to_string()));
            }
            let last = match answer {
                Ok(Ready::Yes) => return Ok(()),
                Ok(Ready::No(page)) => page,
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
    /// Blocks for 30 s at most.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.spawn()?;
        self.wait_ready(READY)
    }

    /// Removes all data of a server that is not running. It then starts empty, with the same ids.
    ///
    /// # Errors
    ///
    /// Fails when the server is running, or the files cannot be removed.
    pub fn wipe(&mut self) -> io::Result<()> {
        self.process.wipe()
    }

    /// Kills the server if it runs, removes all data and starts it on the same ports, with the same
    /// ids; returns when it is ready.
    ///
    /// A client sees the effect of a lost disk: cluster id, member id and term are as before, and the
    /// revision is 1 again. Blocks for 30 s at most.
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
        // The caller then tries other ports.
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

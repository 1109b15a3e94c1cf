//! A lock that many read under, or one writes under.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::guard::LockGuard;
use super::mutex::below;
use super::queue::{Hold, Limit, Queue};
use super::queue_position::{PositionRequest, QueuePosition};
use super::session::Session;
use crate::error::Result;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;

/// A lock that many sessions read under, or one writes under. It contends with the `RWMutex` of
/// Go's `recipes` of the same name.
///
/// Readers wait for the writers that asked before them, writers for everybody who asked before them:
/// nobody starves. Unlike with a [`Mutex`](super::Mutex), every guard is a contender of its own, also
/// two of one session: who holds one guard and waits for the other waits for itself. Everything
/// else is as with a `Mutex`: the waiting, the errors, and what a [`LockGuard`] does.
///
/// ```no_run
/// use etcd_blocking::Client;
/// use etcd_blocking::concurrency::{RwLock, Session};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let session = Session::builder(&client).start()?;
/// let schema = RwLock::new(&session, "locks/schema");
/// drop((schema.read()?, schema.read()?));
/// let guard = schema.write()?;
/// println!("nobody reads, and I write with token {}", guard.fencing_token());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RwLock {
    session: Session,
    name: Bytes,
}

#[derive(Clone, Copy)]
enum Mode {
    Read,
    Write,
}

impl RwLock {
    /// The lock of this name. It asks nobody.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        RwLock {
            session: session.clone(),
            name: name.into_bytes(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Locks for reading; blocks until every writer that asked before is gone.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`](super::Mutex::lock).
    pub fn read(&self) -> Result<LockGuard> {
        self.acquire("lock for reading", Mode::Read, None)
    }

    /// The same, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock_timeout`](super::Mutex::lock_timeout).
    pub fn read_timeout(&self, timeout: Duration) -> Result<LockGuard> {
        self.acquire("lock for reading", Mode::Read, Some(timeout))
    }

    /// Locks for reading if no writer holds it or waits for it.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::try_lock`](super::Mutex::try_lock).
    pub fn try_read(&self) -> Result<Option<LockGuard>> {
        self.attempt("try lock for reading", Mode::Read)
    }

    /// Locks for writing; blocks until everybody who asked before is gone.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`](super::Mutex::lock).
    pub fn write(&self) -> Result<LockGuard> {
        self.acquire("lock for writing", Mode::Write, None)
    }

    /// The same, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock_timeout`](super::Mutex::lock_timeout).
    pub fn write_timeout(&self, timeout: Duration) -> Result<LockGuard> {
        self.acquire("lock for writing", Mode::Write, Some(timeout))
    }

    /// Locks for writing if nobody holds it or waits for it.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::try_lock`](super::Mutex::try_lock).
    pub fn try_write(&self) -> Result<Option<LockGuard>> {
        self.attempt("try lock for writing", Mode::Write)
    }

    fn acquire(
        &self,
        verb: &'static str,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<LockGuard> {
        let limit = Limit::new(verb, &self.name, timeout);
        let held: Result<(Hold, QueuePosition)> = (|| {
            let queue = Queue {
                session: &self.session,
                limit: &limit,
            };
            loop {
                if let Some(drawn) = queue.draw_new(&self.ticket(mode))? {
                    queue.wait(&drawn)?;
                    return Ok((drawn.hold, drawn.place));
                }
            }
        })();
        match held {
            Ok((hold, place)) => LockGuard::new(hold, place, limit),
            Err(error) => Err(limit.named(error)),
        }
    }

    fn attempt(&self, verb: &'static str, mode: Mode) -> Result<Option<LockGuard>> {
        let limit = Limit::new(verb, &self.name, Some(self.session.client().timeout()));
        let queue = Queue {
            session: &self.session,
            limit: &limit,
        };
        match queue.try_acquire(&self.ticket(mode)) {
            Ok(None) => Ok(None),
            Ok(Some((hold, place))) => LockGuard::new(hold, place, limit).map(Some),
            Err(error) => Err(limit.named(error)),
        }
    }

    /// A ticket that nobody has, with the keys that Go's recipe would wait for.
    fn ticket(&self, mode: Mode) -> PositionRequest {
        let (own, before) = match mode {
            Mode::Read => ("read", "write"),
            Mode::Write => ("write", ""),
        };
        PositionRequest {
            key: below(&self.name, &format!("{own}/{}", unique_nanos())),
            value: Bytes::new(),
            lease: self.session.lease(),
            before: KeyRange::prefix(below(&self.name, before)),
        }
    }
}

/// The time in nanoseconds, and never the same twice in this process.
fn unique_nanos() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);

    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    let next = |last: u64| now.max(last.saturating_add(1));
    match LAST.fetch_update(Relaxed, Relaxed, |last| Some(next(last))) {
        Ok(last) | Err(last) => next(last),
    }
}

//! A read-write lock: many readers or one writer.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::guard::LockGuard;
use super::mutex::below;
use super::queue::{HeldKey, Limit, LockQueue};
use super::queue_position::{PositionRequest, QueuePosition};
use super::session::Session;
use crate::error::Result;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::util::atomic::AtomicU64;

/// A lock for many readers or one writer. It is compatible with `RWMutex` of Go's `recipes` of the same
/// name.
///
/// Readers wait for earlier writers, and writers wait for all earlier contenders, so that none starves.
/// Unlike with a [`Mutex`](super::Mutex), every guard is a separate contender, also two guards of one
/// session: a thread that holds one guard and waits for another may wait for itself. Waits, errors and
/// the [`LockGuard`] are otherwise those of a `Mutex`.
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
/// println!("writing with token {}", guard.fencing_token());
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
    /// Creates a handle of the lock with this name. It sends nothing.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        RwLock {
            session: session.clone(),
            name: name.into_bytes(),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Locks for reading, and blocks until all earlier writers are gone.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`](super::Mutex::lock).
    pub fn read(&self) -> Result<LockGuard> {
        self.acquire("lock for reading", Mode::Read, None)
    }

    /// Locks as the method without a timeout, and blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock_timeout`](super::Mutex::lock_timeout).
    pub fn read_timeout(&self, timeout: Duration) -> Result<LockGuard> {
        self.acquire("lock for reading", Mode::Read, Some(timeout))
    }

    /// Locks for reading if no writer holds the lock or waits for it, otherwise returns `None`.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::try_lock`](super::Mutex::try_lock).
    pub fn try_read(&self) -> Result<Option<LockGuard>> {
        self.attempt("try lock for reading", Mode::Read)
    }

    /// Locks for writing, and blocks until all earlier contenders are gone.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock`](super::Mutex::lock).
    pub fn write(&self) -> Result<LockGuard> {
        self.acquire("lock for writing", Mode::Write, None)
    }

    /// Locks as the method without a timeout, and blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Mutex::lock_timeout`](super::Mutex::lock_timeout).
    pub fn write_timeout(&self, timeout: Duration) -> Result<LockGuard> {
        self.acquire("lock for writing", Mode::Write, Some(timeout))
    }

    /// Locks for writing if no contender holds the lock or waits for it, otherwise returns `None`.
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
        let held: Result<(HeldKey, QueuePosition)> = (|| {
            let queue = LockQueue {
                session: &self.session,
                limit: &limit,
            };
            loop {
                // `None`: another contender has used the same nanosecond.
                if let Some(queued) = queue.enqueue_new(&self.request(mode))? {
                    queue.wait(&queued)?;
                    return Ok((queued.hold, queued.position));
                }
            }
        })();
        match held {
            Ok((hold, position)) => LockGuard::new(hold, position, limit),
            Err(error) => Err(limit.named(error)),
        }
    }

    fn attempt(&self, verb: &'static str, mode: Mode) -> Result<Option<LockGuard>> {
        let limit = Limit::new(verb, &self.name, Some(self.session.client().timeout()));
        let queue = LockQueue {
            session: &self.session,
            limit: &limit,
        };
        match queue.try_acquire(&self.request(mode)) {
            Ok(None) => Ok(None),
            Ok(Some((hold, position))) => LockGuard::new(hold, position, limit).map(Some),
            Err(error) => Err(limit.named(error)),
        }
    }

    /// A request with a unique key, and with the keys that Go's recipe waits for.
    fn request(&self, mode: Mode) -> PositionRequest {
        // Readers wait for writers, and writers for every contender.
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

/// The time in nanoseconds since 1970, unique within this process.
fn unique_nanos() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);

    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    // Two guards of this process in one nanosecond, or after the clock went back, still differ.
    let next = |last: u64| now.max(last.saturating_add(1));
    match LAST.fetch_update(Relaxed, Relaxed, |last| Some(next(last))) {
        Ok(last) | Err(last) => next(last),
    }
}

//! A lock that one session holds at a time.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::guard::LockGuard;
use super::queue::{Limit, Queue};
use super::queue_position::PositionRequest;
use super::session::Session;
use crate::error::Result;
use crate::types::LeaseId;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;

/// A lock that one session holds at a time, and that those who wait get in the order in which they
/// asked. It contends with Go's `concurrency.Mutex` of the same name.
///
/// Each contender puts the key `name/<lease in hexadecimal>` and waits by two watches, on the key in
/// front of its own and on its own; nothing polls, and no thread is started. What one session holds, all its clones
/// hold: [one session is one contender](Session#one-session-is-one-contender). Locking again through
/// it succeeds at once, and the lock is free when the last guard is gone.
///
/// While it waits, connections may break, members stop, leaders change, history be compacted: it goes
/// on waiting until its turn comes, the time is over, or the session is. Who stops waiting takes its
/// key away, as a [`LockGuard`] that is dropped does.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::Client;
/// use etcd_blocking::concurrency::{Mutex, Session};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let session = Session::builder(&client).ttl(Duration::from_secs(10)).start()?;
/// let mutex = Mutex::new(&session, "locks/migration");
/// let guard = mutex.lock_timeout(Duration::from_secs(30))?;
/// println!("mine, with token {}", guard.fencing_token());
/// drop(guard);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Mutex {
    session: Session,
    name: Bytes,
}

impl Mutex {
    /// The lock of this name. It asks nobody.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        Mutex {
            session: session.clone(),
            name: name.into_bytes(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Locks; blocks until it is our turn, however long that takes.
    ///
    /// It returns with an error when the session is over ([`Session::close`] in another thread is
    /// the way to stop waiting), promptly while it waits for its turn, and after the client's timeout
    /// at most while it waits for an answer.
    ///
    /// # Errors
    ///
    /// As [`Session::check`] when the session is over; [`NotFound`](crate::ErrorKind::NotFound) as soon
    /// as somebody deletes our key while we wait; [`Conflict`](crate::ErrorKind::Conflict) when there is a key with our
    /// name that does not hang on our lease; as [`Client::txn`](crate::Client::txn) for what does not
    /// pass, such as [`PermissionDenied`](crate::ErrorKind::PermissionDenied).
    pub fn lock(&self) -> Result<LockGuard> {
        self.acquire(None)
    }

    /// The same, for at most `timeout`, and 1 s more to take the key away when etcd is out of reach.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Mutex::lock); [`Timeout`](crate::ErrorKind::Timeout) when our turn did not
    /// come in time, and the last trouble when etcd was out of reach all that time.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard> {
        self.acquire(Some(timeout))
    }

    /// Locks if that needs no waiting; `None` when somebody else holds it or waits for it. Nothing
    /// is put then. Blocks for at most the client's timeout.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Mutex::lock), and [`Timeout`](crate::ErrorKind::Timeout) or
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when there was no answer.
    pub fn try_lock(&self) -> Result<Option<LockGuard>> {
        let limit = Limit::new(
            "try lock",
            &self.name,
            Some(self.session.client().timeout()),
        );
        let queue = Queue {
            session: &self.session,
            limit: &limit,
        };
        match queue.try_acquire(&self.ticket()) {
            Ok(None) => Ok(None),
            Ok(Some((hold, place))) => LockGuard::new(hold, place, limit).map(Some),
            Err(error) => Err(limit.named(error)),
        }
    }

    fn acquire(&self, timeout: Option<Duration>) -> Result<LockGuard> {
        let limit = Limit::new("lock", &self.name, timeout);
        let queue = Queue {
            session: &self.session,
            limit: &limit,
        };
        match queue.acquire(&self.ticket()) {
            Ok((hold, place)) => LockGuard::new(hold, place, limit),
            Err(error) => Err(limit.named(error)),
        }
    }

    fn ticket(&self) -> PositionRequest {
        let prefix = below(&self.name, "");
        let lease = self.session.lease();
        PositionRequest {
            key: key_of(&prefix, lease),
            value: Bytes::new(),
            lease,
            before: KeyRange::prefix(prefix),
        }
    }
}

/// `name/rest`.
pub(super) fn below(name: &Bytes, rest: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(name.len() + 1 + rest.len());
    key.put_slice(name);
    key.put_u8(b'/');
    key.put_slice(rest.as_bytes());
    key.freeze()
}

/// The key of a lease below a prefix: hexadecimal without leading zeroes, as Go has it.
pub(super) fn key_of(prefix: &Bytes, lease: LeaseId) -> Bytes {
    let mut key = BytesMut::from(prefix.as_ref());
    key.put_slice(format!("{:x}", lease.get()).as_bytes());
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_laid_out_as_go_lays_them_out() {
        let lease = LeaseId::new(0x0694_d7a3_c5f1_b0a2).unwrap();
        let prefix = below(&Bytes::from("my-lock"), "");
        assert_eq!(key_of(&prefix, lease), "my-lock/694d7a3c5f1b0a2");
        assert_eq!(below(&Bytes::from("rw"), "read/17"), "rw/read/17");
    }
}

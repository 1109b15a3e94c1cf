//! A mutex: a lock that one session holds at a time.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::guard::LockGuard;
use super::queue::{Limit, LockQueue};
use super::queue_position::PositionRequest;
use super::session::Session;
use crate::error::Result;
use crate::types::LeaseId;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;

/// A lock that one session holds at a time. Waiting sessions get it in the order of their requests. It
/// is compatible with Go's `concurrency.Mutex` of the same name.
///
/// Each contender puts the key `name/<lease in hexadecimal>`, and waits with two watches, on the key
/// before its own and on its own key. It does not poll, and starts no thread. A lock is held by a
/// session with all its clones:
/// [one session is one contender](Session#one-session-is-one-contender). Locking again through the same
/// session succeeds at once, and the lock is free when the last guard is dropped.
///
/// Broken connections, stopped members, changes of the leader and compactions do not end the wait. It
/// ends when the lock is acquired, the timeout passes, or the session ends. A wait that fails deletes
/// its key, as a dropped [`LockGuard`] does.
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
    /// Creates a handle of the lock with this name. It sends nothing.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        Mutex {
            session: session.clone(),
            name: name.into_bytes(),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Locks, and blocks until the lock is acquired, without a limit in time.
    ///
    /// It fails when the session ends, at once while it waits for the lock, and after the client's
    /// timeout at most while it waits for an answer. [`Session::close`] in another thread ends the wait.
    ///
    /// # Errors
    ///
    /// As [`Session::check`] when the session has ended; [`NotFound`](crate::ErrorKind::NotFound) when
    /// the key of this session is deleted during the wait; [`Conflict`](crate::ErrorKind::Conflict) when
    /// a key of the same name is attached to another lease; as [`Client::txn`](crate::Client::txn) for
    /// lasting errors, such as [`PermissionDenied`](crate::ErrorKind::PermissionDenied).
    pub fn lock(&self) -> Result<LockGuard> {
        self.acquire(None)
    }

    /// Locks, and blocks for at most `timeout`, and 1 s more to delete its key if etcd is unreachable.
    ///
    /// # Errors
    ///
    /// As [`lock`](Mutex::lock); [`Timeout`](crate::ErrorKind::Timeout) when the lock was not acquired
    /// in time, and the last error when etcd was unreachable for the whole time.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard> {
        self.acquire(Some(timeout))
    }

    /// Locks if that is possible at once. Blocks for the client's timeout at most.
    ///
    /// Returns `None`, and puts no key, when another session holds the lock or waits for it.
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
        let queue = LockQueue {
            session: &self.session,
            limit: &limit,
        };
        match queue.try_acquire(&self.request()) {
            Ok(None) => Ok(None),
            Ok(Some((hold, position))) => LockGuard::new(hold, position, limit).map(Some),
            Err(error) => Err(limit.named(error)),
        }
    }

    fn acquire(&self, timeout: Option<Duration>) -> Result<LockGuard> {
        let limit = Limit::new("lock", &self.name, timeout);
        let queue = LockQueue {
            session: &self.session,
            limit: &limit,
        };
        match queue.acquire(&self.request()) {
            Ok((hold, position)) => LockGuard::new(hold, position, limit),
            Err(error) => Err(limit.named(error)),
        }
    }

    fn request(&self) -> PositionRequest {
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
    fn keys_have_the_layout_of_go() {
        let lease = LeaseId::new(0x0694_d7a3_c5f1_b0a2).unwrap();
        let prefix = below(&Bytes::from("my-lock"), "");
        assert_eq!(key_of(&prefix, lease), "my-lock/694d7a3c5f1b0a2");
        assert_eq!(below(&Bytes::from("rw"), "read/17"), "rw/read/17");
    }
}

//! The guard of a lock.

use std::fmt;

use bytes::Bytes;
use crossbeam_channel::Receiver;

use super::queue::{HeldKey, Limit};
use super::queue_position::QueuePosition;
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Get};
use crate::types::Revision;

/// A held lock. Dropping the guard unlocks it.
///
/// A lock is held while the key of the holder is the oldest key of the lock. etcd deletes the key when
/// the [`Session`] ends, and then another program gets the lock, whatever this process does. So:
///
/// - call [`check`](LockGuard::check) before every step that must not happen twice: it sends no
///   request, and only reads the clock;
/// - stop the work when [`lost`](LockGuard::lost) receives an item;
/// - guard writes to etcd with [`is_owner`](LockGuard::is_owner), and other writes with the
///   [`fencing_token`](LockGuard::fencing_token). Only these two are safe in all cases, because a
///   process can be paused between a check and the following write.
///
/// # Dropping
///
/// Dropping the guard unlocks in 1 s at most. If etcd is unreachable for that time, the key is deleted
/// in the background while the session lives, and with the session at the latest.
/// [`unlock`](LockGuard::unlock) also returns the outcome.
///
/// ```no_run
/// use etcd_blocking::{Client, Put, Txn};
/// use etcd_blocking::concurrency::{Mutex, Session};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let session = Session::builder(&client).start()?;
/// let guard = Mutex::new(&session, "locks/report").lock()?;
/// let written = client.txn(Txn::when([guard.is_owner()]).then([Put::new("report", "done")]))?;
/// assert!(written.succeeded(), "another program holds the lock");
/// guard.unlock()?;
/// # Ok(()) }
/// ```
#[must_use = "the lock is unlocked when this is dropped"]
pub struct LockGuard {
    hold: HeldKey,
    position: QueuePosition,
    limit: Limit,
}

impl LockGuard {
    /// The guard of an acquired lock. The session is checked again, because it may have ended since
    /// the last answer.
    pub(super) fn new(hold: HeldKey, position: QueuePosition, limit: Limit) -> Result<Self> {
        hold.session().check().map_err(|error| limit.named(error))?;
        Ok(LockGuard {
            hold,
            position,
            limit,
        })
    }

    /// Returns the number of this holder, which is greater than that of every earlier holder.
    ///
    /// A protected resource can refuse requests with a smaller number than the highest it has received.
    /// The number is the create_revision of the [`key`](LockGuard::key). Two readers of a
    /// [`RwLock`](super::RwLock) have different numbers.
    pub fn fencing_token(&self) -> Revision {
        self.position.revision
    }

    /// Returns the key that holds the lock.
    pub fn key(&self) -> &Bytes {
        &self.position.key
    }

    /// Returns a condition for [`Txn::when`](crate::Txn::when) that is true while the lock is held.
    ///
    /// A transaction with this condition is not executed for a holder that has lost the lock.
    pub fn is_owner(&self) -> Compare {
        self.position.guard()
    }

    /// Returns an error if the session of the lock has ended. It sends no request; see
    /// [`Session::check`].
    ///
    /// # Errors
    ///
    /// Why the session ended. Another program may hold the lock.
    pub fn check(&self) -> Result<()> {
        self.session().check()
    }

    /// Returns the channel that receives the reason when the session, and so the lock, is lost; see
    /// [`Session::lost`].
    pub fn lost(&self) -> &Receiver<Error> {
        self.session().lost()
    }

    /// Returns the session.
    pub fn session(&self) -> &Session {
        self.hold.session()
    }

    /// Asks etcd whether the lock is still held. This also detects a deleted key.
    ///
    /// Blocks for the client's timeout at most.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when the key is gone; as [`check`](LockGuard::check) when
    /// the session is over; as [`Client::get`](crate::Client::get).
    pub fn verify(&self) -> Result<()> {
        self.check()?;
        let found = self
            .session()
            .client()
            .call(Get::key(self.position.key.clone()).keys_only())?;
        match found.first() {
            Some(kv) if kv.create_revision() == self.position.revision => self.check(),
            _ => Err(self.limit.named(not_held())),
        }
    }

    /// Unlocks. Blocks for the client's timeout at most.
    ///
    /// While the session has other guards of the lock, it stays locked, and etcd is asked whether the
    /// lock was held until now.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when the lock was not held any more, so that another program
    /// may have held it; as [`Client::delete`](crate::Client::delete) when the request failed, and then
    /// it is repeated in the background.
    pub fn unlock(self) -> Result<()> {
        let LockGuard { hold, limit, .. } = self;
        let within = hold.session().client().timeout();
        match hold.release(within) {
            Ok(true) => Ok(()),
            Ok(false) => Err(limit.named(not_held())),
            Err(error) => Err(limit.named(error)),
        }
    }
}

fn not_held() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "the lock was not held any more: its key is gone",
    )
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("key", &String::from_utf8_lossy(&self.position.key))
            .field("fencing_token", &self.position.revision)
            .field("session", self.session())
            .finish()
    }
}

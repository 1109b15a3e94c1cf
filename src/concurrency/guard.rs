//! What the holder of a lock holds.

use std::fmt;

use bytes::Bytes;
use crossbeam_channel::Receiver;

use super::queue::{Hold, Limit};
use super::queue_position::QueuePosition;
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Get};
use crate::types::Revision;

/// A lock that is held, until this is dropped.
///
/// Holding it means: the key of the holder is in etcd, and it is the oldest one of the lock. etcd
/// deletes the key when the [`Session`] ends, and then somebody else gets the lock, whatever this
/// process does. So:
///
/// - look at [`check`](LockGuard::check) before every step that must not happen twice: it asks
///   nobody and costs a look at the clock;
/// - let [`lost`](LockGuard::lost) stop the work;
/// - guard what is written to etcd by [`is_owner`](LockGuard::is_owner), and everything else by the
///   [`fencing_token`](LockGuard::fencing_token). Only these two hold whatever happens: a process
///   can be paused between any check and the write after it.
///
/// # Dropping
///
/// Unlocks, in at most 1 s. When etcd is out of reach for that long, the key is deleted later, in
/// the background, for as long as the session lives; and with it at the latest.
/// [`unlock`](LockGuard::unlock) does the same and says whether it worked.
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
/// assert!(written.succeeded(), "somebody else holds the lock by now");
/// guard.unlock()?;
/// # Ok(()) }
/// ```
#[must_use = "the lock is unlocked when this is dropped"]
pub struct LockGuard {
    hold: Hold,
    place: QueuePosition,
    limit: Limit,
}

impl LockGuard {
    /// The guard of a lock that was acquired. Between the last answer and here the session may have
    /// ended, or the process may have been stopped for longer than the lease lives.
    pub(super) fn new(hold: Hold, place: QueuePosition, limit: Limit) -> Result<Self> {
        hold.session().check().map_err(|error| limit.named(error))?;
        Ok(LockGuard { hold, place, limit })
    }

    /// The number of this holder: greater than that of everybody who held the lock before. What the
    /// lock protects can refuse whoever comes with a smaller one than it has seen.
    ///
    /// It is the create revision of the [`key`](LockGuard::key). Two that read under a
    /// [`RwLock`](super::RwLock) have different ones.
    pub fn fencing_token(&self) -> Revision {
        self.place.revision
    }

    /// The key that holds the lock.
    pub fn key(&self) -> &Bytes {
        &self.place.key
    }

    /// Holds for as long as the lock is held: for [`Txn::when`](crate::Txn::when). A transaction that
    /// is guarded by it is not executed for a holder that has lost the lock.
    pub fn is_owner(&self) -> Compare {
        self.place.guard()
    }

    /// Whether the session lives on which the lock is held: see [`Session::check`]. It asks nobody.
    ///
    /// # Errors
    ///
    /// Why it is over; somebody else may hold the lock.
    pub fn check(&self) -> Result<()> {
        self.session().check()
    }

    /// Fires when the session is lost, and the lock with it: see [`Session::lost`].
    pub fn lost(&self) -> &Receiver<Error> {
        self.session().lost()
    }

    /// The session.
    pub fn session(&self) -> &Session {
        self.hold.session()
    }

    /// Asks etcd whether the lock is still held: also a key that somebody deleted is noticed.
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
            .call(Get::key(self.place.key.clone()).keys_only())?;
        match found.first() {
            Some(kv) if kv.create_revision() == self.place.revision => self.check(),
            _ => Err(self.limit.named(not_held())),
        }
    }

    /// Unlocks. Blocks for at most the client's timeout. While the session holds the lock by other
    /// guards too, it stays locked, and etcd is asked whether it was held until now.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) when the lock was not held any more, and somebody else may
    /// have held it meanwhile; as [`Client::delete`](crate::Client::delete) when it did not work,
    /// and then it is tried again in the background.
    pub fn unlock(self) -> Result<()> {
        let LockGuard { hold, limit, .. } = self;
        let within = hold.session().client().timeout();
        match hold.give_up(within) {
            Ok(true) => Ok(()),
            Ok(false) => Err(limit.named(not_held())),
            Err(error) => Err(limit.named(error)),
        }
    }
}

fn not_held() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "it was not held any more: its key is gone",
    )
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("key", &String::from_utf8_lossy(&self.place.key))
            .field("fencing_token", &self.place.revision)
            .field("session", self.session())
            .finish()
    }
}

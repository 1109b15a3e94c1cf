//! What programs agree on through etcd: who holds a lock, who leads.
//!
//! Everything here stands on a [`Session`]: a lease that is kept alive. The keys are laid out as
//! Go's packages `concurrency` and `recipes` lay them out, so that Go programs and programs of this
//! crate contend for the same locks and elections.
//!
//! No lock service can stop a process that was paused while it held a lock. Two things can be done,
//! and both are here: the holder learns of its loss as soon as it runs again
//! ([`lost`](Session::lost), [`check`](Session::check): by the local clock, without asking anybody),
//! and what it protects can refuse it, by the *fencing token* that every holder has and that grows
//! from holder to holder, or by a transaction that is guarded by the holder's key.

mod candidates;
mod election;
mod guard;
mod keyring;
mod mutex;
mod observer;
mod place;
mod queue;
mod rw_lock;
mod session;

pub use election::{Election, Leadership};
pub use guard::LockGuard;
pub use mutex::Mutex;
pub use observer::Observer;
pub use rw_lock::RwLock;
pub use session::{Session, SessionBuilder};

use crate::error::{Error, ErrorKind};

/// Whether an error may be gone at the next attempt. What is written here can be written again: a
/// key is created once and deleted once, whatever became of an attempt.
fn may_pass(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited
    )
}

//! What programs agree on through etcd: who holds a lock, who leads.
//!
//! Locks and elections stand on a [`Session`]: a lease that is kept alive. The keys are laid out as
//! Go's packages `concurrency` and `recipes` lay them out, so that Go programs and programs of this
//! crate contend for the same locks and elections.
//!
//! No lock service can stop a process that was paused while it held a lock. Two things can be done,
//! and both are here: the holder learns of its loss as soon as it runs again
//! ([`lost`](Session::lost), [`check`](Session::check): by the local clock, without asking anybody),
//! and what it protects can refuse it, by the *fencing token* that every holder has and that grows
//! from holder to holder, or by a transaction that is guarded by the holder's key.
//!
//! Transactions that read and write as if alone ([`Stm`]), a [`Queue`] and a [`Barrier`] need no session.

mod barrier;
mod candidates;
mod double_barrier;
mod election;
mod element;
mod fifo;
mod guard;
mod key_use;
mod mutex;
pub(crate) mod nest;
mod observer;
mod priority_queue;
mod queue;
mod queue_position;
mod rw_lock;
mod session;
mod session_keys;
mod stm;

pub use barrier::Barrier;
pub use double_barrier::{DoubleBarrier, Inside};
pub use election::{Election, Leadership};
pub use element::Element;
pub use fifo::Queue;
pub use guard::LockGuard;
pub use mutex::Mutex;
pub use observer::Observer;
pub use priority_queue::PriorityQueue;
pub use rw_lock::RwLock;
pub use session::{Session, SessionBuilder};
pub use stm::{Committed, Isolation, Stm, Tx};

use crate::error::{Error, ErrorKind};

/// Whether an error may be gone at the next attempt. What is written here can be written again: a
/// key is created once and deleted once, whatever became of an attempt. TLS worked when the session
/// began: a certificate that is wrong now can be put right while the session lasts.
fn may_pass(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited | ErrorKind::Tls
    )
}

/// Whether a watch ended because it could not tell everything: reading, and watching anew, helps.
fn missed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Rewound)
}

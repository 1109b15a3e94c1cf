//! Locks, elections, queues, barriers and software transactions.
//!
//! Locks and elections are based on a [`Session`]: a lease that is kept alive. Their keys have the
//! layout of Go's packages `concurrency` and `recipes`, so that Go programs and programs of this crate
//! share locks and elections.
//!
//! No lock service can stop a process that was paused while it held a lock. This module offers two
//! protections. The holder detects its loss as soon as it runs again, with [`lost`](Session::lost) and
//! [`check`](Session::check), by the local clock and without a request. And the protected resource can
//! refuse a former holder, by the *fencing token*, which increases from holder to holder, or by a
//! transaction that is guarded by the holder's key.
//!
//! Software transactions ([`Stm`]), a [`Queue`] and a [`Barrier`] need no session.

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

/// Returns whether the next attempt may succeed after an error. All writes of this module can be repeated: a
/// key is created once and deleted once, whatever the outcome of an attempt. TLS worked when the
/// session started, so an invalid certificate may be replaced while the session lives.
fn is_transient(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited | ErrorKind::Tls
    )
}

/// Returns whether a watch ended because events are missing, so that the keys must be read and watched again.
fn events_are_missing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Compacted | ErrorKind::Rewound)
}

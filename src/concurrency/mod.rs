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
//!
//! Transactions that read and write as if alone ([`Stm`]), queues and barriers need no session.

mod barrier;
mod double_barrier;
mod element;
pub(crate) mod nest;
mod priority_queue;
mod queue;
mod session;
mod stm;

pub use barrier::Barrier;
pub use double_barrier::{DoubleBarrier, Inside};
pub use element::Element;
pub use priority_queue::PriorityQueue;
pub use queue::Queue;
pub use session::{Session, SessionBuilder};
pub use stm::{Committed, Isolation, Stm, Tx};

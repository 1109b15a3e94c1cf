//! Stand-ins, built on loom, of what the modelled files use to run in parallel.
//!
//! The binary names this library `tokio`, `parking_lot` and `crossbeam_channel`, so its root has their names. A
//! stand-in does what the documentation of the original promises, and every operation is a point where loom may run
//! another thread. Time never passes, unless a model says so: a wake-up that is lost is a deadlock, which loom reports.

pub mod atomic;
mod channel;
mod clock;
mod lock;
mod notify;
mod once;
mod parker;
pub mod runtime;
mod select;
pub mod thread;
pub mod unbounded;
pub mod watched;

pub use channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError, TrySendError, bounded,
    unbounded,
};
pub use clock::{Instant, Timeouts};
pub use lock::{Condvar, Mutex, MutexGuard, RwLock, WaitTimeoutResult};
pub use once::OnceLock;
pub use parker::block_on;
pub use runtime::spawn;
pub use select::Select;

/// The names of `tokio::time`.
pub mod time {
    pub use super::clock::sleep_until;
}

/// The names of `tokio::sync`.
pub mod sync {
    pub use super::notify::Notify;
    pub use super::unbounded as mpsc;
    pub use super::watched as watch;
}

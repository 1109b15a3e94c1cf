//! The private runtime: one thread, entered by blocked callers, and what flows out of it.
//!
//! It knows nothing about etcd. Above it, nothing waits on the runtime but through
//! [`Bridge::call`] and [`Bridge::submit`].

mod bounded_sender;
mod bridge;
pub(crate) mod clock;
mod driver;
mod pending;

pub(crate) use bounded_sender::{BoundedSender, Offer, Room};
pub(crate) use bridge::{Bridge, Here, Spawn};
pub use driver::DriveMode;
pub(crate) use pending::Lost;
pub use pending::Pending;

//! The private runtime: one thread, entered by blocked callers, and what flows out of it.
//!
//! It knows nothing about etcd. Above it, nothing waits on the runtime but through
//! [`Bridge::call`] and [`Bridge::submit`].

mod bridge;
pub(crate) mod clock;
mod outlet;
mod pending;
mod switch;

pub(crate) use bridge::{Bridge, Here, Spawn};
pub(crate) use outlet::{Offer, Outlet, Room};
pub(crate) use pending::Lost;
pub use pending::Pending;
pub use switch::Drive;

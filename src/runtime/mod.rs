//! The private runtime: one thread, the calls into it, and the queues out of it.
//!
//! It has no knowledge of etcd. The layers above wait for the runtime only through [`Bridge::call`]
//! and [`Bridge::submit_or`].

mod bounded_queue;
mod bridge;
pub(crate) mod clock;
mod driver;
mod pending;

pub(crate) use bounded_queue::{
    BoundedReceiver, BoundedSender, Capacity, SendOutcome, bounded_queue,
};
pub(crate) use bridge::{Bridge, CurrentRuntime, Spawn};
pub use driver::DriveMode;
pub(crate) use pending::LostRequest;
pub use pending::Pending;

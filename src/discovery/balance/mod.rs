//! The choice of the instance that gets the next call.

mod balance;
pub(crate) mod balancer;
mod pick_schedule;

pub use balance::Balance;

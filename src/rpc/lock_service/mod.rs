//! The lock and election services that run inside the server.
//!
//! The server executes the same algorithms as `concurrency`, on the same keys, under a lease that the
//! caller keeps alive. Each is one call. The types of `concurrency` report more failures, and use
//! another member when one is cut off.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod campaign;
mod leader;
mod lock;
mod observe;
mod proclaim;
mod wait_under_lease;

pub use campaign::{Campaign, CampaignResponse, LeaderKey};
pub use leader::{Leader, LeaderResponse};
pub use lock::{Lock, LockResponse, Unlock, UnlockResponse};
pub use observe::Leaders;
pub(crate) use observe::observe;
pub use proclaim::{Proclaim, ProclaimResponse, Resign, ResignResponse};

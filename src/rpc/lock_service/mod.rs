//! The lock and election services that run inside the server.
//!
//! The server runs the same recipes as `concurrency`, on the same keys, on behalf of a lease that the
//! caller keeps alive. They are for those who want one call instead of a recipe; the recipes know
//! more about what goes wrong, and go elsewhere when a member is cut off.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod campaign;
mod leader;
mod leading;
mod lock;
mod observe;
mod waiting;

pub use campaign::{Campaign, CampaignResponse, LeaderKey};
pub use leader::{Leader, LeaderResponse};
pub use leading::{Proclaim, ProclaimResponse, Resign, ResignResponse};
pub use lock::{Lock, LockResponse, Unlock, UnlockResponse};
pub use observe::Leaders;
pub(crate) use observe::follow;

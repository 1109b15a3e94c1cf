//! Leases: the requests, their responses, and what keeps leases alive.
//!
//! A lease is a promise to say "I am still here" before its time to live is over. Keys that hang on
//! it are deleted when it ends. `keeper` decides when to renew; `task` does it, for all leases of a
//! client over one stream.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod abandoned;
mod deadline;
mod grant;
mod handle;
mod keeps_alive;
mod lease_status;
mod list;
mod maybe_executed;
mod once;
mod renewal_schedule;
mod revoke;
mod stream;
mod task;
mod time_to_live;

use std::time::Duration;

pub use deadline::Deadline;
pub use grant::{Grant, Lease};
pub use handle::{KeepAlive, Renewal};
pub use keeps_alive::KeepsAlive;
pub(crate) use keeps_alive::sealed as keeping;
pub(crate) use lease_status::LeaseWaiter;
pub use list::{Leases, LeasesResponse};
pub use once::KeepAliveOnce;
pub use revoke::{Revoke, RevokeResponse};
pub(crate) use task::LeaseKeeping;
pub use time_to_live::{TimeToLive, TimeToLiveResponse};

/// A time to live as it came from the server; `None` when the lease is gone.
fn living(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

//! The lease service: requests and responses, and the renewal of leases.
//!
//! A lease ends when it is not renewed within its time to live, and the keys attached to it are
//! deleted. [`renewal_schedule`] decides when each lease is renewed; [`keep_alive_task`] performs that
//! for all leases of a client over one stream.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod deadline;
mod grant;
mod keep_alive;
mod keep_alive_once;
mod keep_alive_task;
mod keeps_alive;
mod lease_command;
mod lease_holder;
mod lease_registry;
mod lease_status;
mod leases;
mod maybe_executed;
mod orphan_cleanup;
mod renewal;
mod renewal_schedule;
mod renewal_stream;
mod revoke;
mod time_to_live;
mod ttl_seconds;

pub use deadline::Deadline;
pub use grant::{Grant, Lease};
pub use keep_alive::KeepAlive;
pub use keep_alive_once::KeepAliveOnce;
pub use keeps_alive::KeepsAlive;
pub(crate) use keeps_alive::sealed::HasLease;
pub(crate) use lease_registry::LeaseRegistry;
#[cfg(test)]
pub(crate) use lease_status::RenewedLease;
pub(crate) use lease_status::{LeaseView, LeaseWaiter};
pub use leases::{Leases, LeasesResponse};
pub use renewal::Renewal;
#[cfg(any(test, fuzzing))]
pub(crate) use renewal_schedule::fuzz;
pub use revoke::{Revoke, RevokeResponse};
pub use time_to_live::{TimeToLive, TimeToLiveResponse};

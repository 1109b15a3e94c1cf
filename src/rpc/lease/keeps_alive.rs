//! The trait of the types that keep a lease alive.

#![allow(private_interfaces, reason = "the trait is sealed")]

use super::keep_alive::KeepAlive;
use super::lease_status::LeaseWaiter;

/// A type that keeps a lease alive: [`KeepAlive`] or [`Session`](crate::concurrency::Session).
///
/// Requests that hold a lock or an election under a lease take one of these and not a lease id, so
/// that the lease is renewed while they wait, and the request ends when the lease does. The trait is
/// sealed.
///
/// ```no_run
/// use etcd_blocking::lease::KeepsAlive;
/// use etcd_blocking::{Client, Result};
///
/// fn lock_report(client: &Client, alive: &impl KeepsAlive) -> Result<()> {
///     client.lock_service().lock("locks/report", alive)?;
///     Ok(())
/// }
/// ```
pub trait KeepsAlive: sealed::HasLease {}

impl<T: sealed::HasLease> KeepsAlive for T {}

pub(crate) mod sealed {
    use super::LeaseWaiter;

    /// Gives access to a lease that is kept alive.
    pub trait HasLease {
        #[doc(hidden)]
        fn lease_waiter(&self) -> LeaseWaiter;
    }
}

impl sealed::HasLease for KeepAlive {
    fn lease_waiter(&self) -> LeaseWaiter {
        self.waiter()
    }
}

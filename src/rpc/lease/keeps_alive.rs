//! What a request made under a lease asks for: that somebody keeps that lease alive.

#![allow(
    private_interfaces,
    reason = "the trait for what keeps a lease alive is sealed"
)]

use super::handle::KeepAlive;
use super::lease_status::LeaseWaiter;

/// Something that keeps a lease alive: a [`KeepAlive`], or a
/// [`Session`](crate::concurrency::Session).
///
/// Requests that hold something under a lease take one of these and not a bare id, so that none of
/// them stands on a lease that nobody renews; and they end when it does. The trait is sealed.
pub trait KeepsAlive: sealed::Keeps {}

impl<T: sealed::Keeps> KeepsAlive for T {}

pub(crate) mod sealed {
    use super::LeaseWaiter;

    /// How a request learns of the lease, and of its end.
    pub trait Keeps {
        #[doc(hidden)]
        fn kept(&self) -> LeaseWaiter;
    }
}

impl sealed::Keeps for KeepAlive {
    fn kept(&self) -> LeaseWaiter {
        self.fate()
    }
}

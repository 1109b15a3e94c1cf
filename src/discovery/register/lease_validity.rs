//! The validity of the lease that all registrations of a registrar share, and the error that affects
//! all of them. The task that renews the lease changes one value, which is read here; a renewal wakes no
//! thread.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::Error;
use crate::rpc::lease::{Deadline, LeaseWaiter};

/// The time until which the lease of a registrar lives, and the error that affects all of its registrations.
#[derive(Debug)]
pub(super) struct LeaseValidity(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// The time until which the lease lives by its grant.
    until: Deadline,
    /// The time to live that was asked for.
    ttl: Duration,
    /// The lease, once it is granted. Its last renewal counts more than its grant.
    lease: Option<LeaseWaiter>,
    granted: Option<Instant>,
    is_retired: bool,
    error: Option<Error>,
}

impl LeaseValidity {
    pub(super) fn new(ttl: Duration) -> Self {
        LeaseValidity(Mutex::new(Inner {
            until: Deadline::PASSED,
            ttl,
            lease: None,
            granted: None,
            is_retired: false,
            error: None,
        }))
    }

    pub(super) fn granted(&self, until: Deadline, now: Instant, lease: LeaseWaiter) {
        let mut inner = self.0.lock();
        inner.until = until;
        inner.lease = Some(lease);
        inner.granted = Some(now);
        inner.error = None;
    }

    /// The lease is no longer renewed.
    pub(super) fn retire(&self) {
        self.0.lock().is_retired = true;
    }

    pub(super) fn is_retired(&self) -> bool {
        self.0.lock().is_retired
    }

    pub(super) fn lost(&self) {
        let mut inner = self.0.lock();
        (inner.until, inner.lease) = (Deadline::PASSED, None);
    }

    /// Sets the error that affects all registrations; `None` once a request succeeded.
    pub(super) fn set_error(&self, error: Option<Error>) {
        self.0.lock().error = error;
    }

    pub(super) fn error(&self) -> Option<Error> {
        self.0.lock().error.clone()
    }

    /// The time at which the lease was granted.
    pub(super) fn granted_at(&self) -> Option<Instant> {
        self.0.lock().granted
    }

    pub(super) fn valid_until(&self) -> Deadline {
        self.0.lock().last().0
    }

    /// Whether an expected renewal is missing: the client renews after a third of the TTL, and less
    /// than half of the TTL is left.
    pub(super) fn is_suspect(&self) -> bool {
        let (until, ttl) = self.0.lock().last();
        // Renewals come at a third of the TTL, so at the half one is late.
        until.remaining() < ttl / 2
    }

    /// In how long the lease becomes suspect if no renewal succeeds.
    pub(super) fn suspect_in(&self) -> Duration {
        let (until, ttl) = self.0.lock().last();
        until.remaining().saturating_sub(ttl / 2)
    }
}

impl Inner {
    /// The end and the time to live of the lease by its last renewal, or by its grant.
    fn last(&self) -> (Deadline, Duration) {
        let newest = self.lease.as_ref().and_then(LeaseWaiter::newest);
        // The server may grant another TTL at each renewal.
        newest.map_or((self.until, self.ttl), |newest| {
            (newest.deadline(), newest.ttl())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::lease::RenewedLease;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn after(n: u64) -> Deadline {
        Deadline::after(secs(n))
    }

    fn lease() -> RenewedLease {
        RenewedLease::new()
    }

    #[test]
    fn a_lease_is_suspect_once_less_than_half_of_its_time_is_left() {
        let (validity, lease) = (LeaseValidity::new(secs(1000)), lease());
        assert!(validity.is_suspect() && validity.granted_at().is_none());
        assert_eq!(validity.suspect_in(), Duration::ZERO);
        let now = Instant::now();
        validity.granted(after(600), now, lease.waiter());
        assert_eq!(validity.granted_at(), Some(now));
        assert!(!validity.is_suspect());
        let suspect_in = validity.suspect_in();
        assert!(suspect_in > Duration::ZERO && suspect_in <= secs(100));
        lease.renewed(secs(400), secs(1000));
        assert!(validity.is_suspect(), "no renewal came");
        assert_eq!(validity.suspect_in(), Duration::ZERO);
        // The server grants less time than before.
        lease.renewed(secs(400), secs(500));
        assert!(!validity.is_suspect() && validity.suspect_in() <= secs(150));
        assert!(validity.valid_until().remaining() > secs(300));
        validity.lost();
        assert!(validity.is_suspect() && validity.valid_until().has_passed());
        lease.renewed(secs(400), secs(500));
        assert!(validity.is_suspect(), "it is lost");
    }

    #[test]
    fn a_grant_clears_the_error_and_a_renewal_does_not() {
        let (validity, lease) = (LeaseValidity::new(secs(10)), lease());
        assert!(validity.error().is_none());
        validity.set_error(Some(Error::invalid("a fault")));
        lease.renewed(secs(10), secs(10));
        assert!(validity.error().is_some());
        validity.granted(after(10), Instant::now(), lease.waiter());
        assert!(validity.error().is_none());
        assert!(!validity.is_retired());
        validity.retire();
        assert!(validity.is_retired());
    }
}

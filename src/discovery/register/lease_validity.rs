//! What all registrations of a registrar have in common: until when their lease lives, and what is
//! in the way at the moment. A renewal changes this one place, and touches no registration.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::Error;
use crate::rpc::lease::Deadline;

/// The lease of a registrar and the trouble it has, for whoever asks.
#[derive(Debug)]
pub(super) struct LeaseValidity(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    until: Deadline,
    ttl: Duration,
    granted: Option<Instant>,
    is_retired: bool,
    trouble: Option<Error>,
}

impl LeaseValidity {
    pub(super) fn new(ttl: Duration) -> Self {
        LeaseValidity(Mutex::new(Inner {
            until: Deadline::PASSED,
            ttl,
            granted: None,
            is_retired: false,
            trouble: None,
        }))
    }

    pub(super) fn granted(&self, until: Deadline, now: Instant) {
        let mut inner = self.0.lock();
        inner.until = until;
        inner.granted = Some(now);
        inner.trouble = None;
    }

    pub(super) fn renewed(&self, until: Deadline, ttl: Duration) {
        let mut inner = self.0.lock();
        inner.until = until;
        inner.ttl = ttl;
    }

    /// It is not renewed any more.
    pub(super) fn retire(&self) {
        self.0.lock().is_retired = true;
    }

    pub(super) fn is_retired(&self) -> bool {
        self.0.lock().is_retired
    }

    pub(super) fn lost(&self) {
        self.0.lock().until = Deadline::PASSED;
    }

    /// What is in the way of everything; `None` once something got through.
    pub(super) fn set_trouble(&self, trouble: Option<Error>) {
        self.0.lock().trouble = trouble;
    }

    pub(super) fn trouble(&self) -> Option<Error> {
        self.0.lock().trouble.clone()
    }

    /// When the lease was granted.
    pub(super) fn granted_at(&self) -> Option<Instant> {
        self.0.lock().granted
    }

    pub(super) fn valid_until(&self) -> Deadline {
        self.0.lock().until
    }

    /// Whether renewals that should have come did not: they come after a third of the time.
    pub(super) fn is_suspect(&self) -> bool {
        let inner = self.0.lock();
        inner.until.remaining() < inner.ttl / 2
    }

    /// For how long it is not suspect yet, if no renewal comes.
    pub(super) fn suspect_in(&self) -> Duration {
        let inner = self.0.lock();
        inner.until.remaining().saturating_sub(inner.ttl / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn after(n: u64) -> Deadline {
        Deadline::after(secs(n))
    }

    #[test]
    fn a_lease_is_suspect_once_less_than_half_of_its_time_is_left() {
        let validity = LeaseValidity::new(secs(1000));
        assert!(validity.is_suspect() && validity.granted_at().is_none());
        assert_eq!(validity.suspect_in(), Duration::ZERO);
        let now = Instant::now();
        validity.granted(after(600), now);
        assert_eq!(validity.granted_at(), Some(now));
        assert!(!validity.is_suspect());
        let suspect_in = validity.suspect_in();
        assert!(suspect_in > Duration::ZERO && suspect_in <= secs(100));
        validity.renewed(after(400), secs(1000));
        assert!(validity.is_suspect(), "no renewal came");
        assert_eq!(validity.suspect_in(), Duration::ZERO);
        // The server grants less time than before.
        validity.renewed(after(400), secs(500));
        assert!(!validity.is_suspect() && validity.suspect_in() <= secs(150));
        assert!(validity.valid_until().remaining() > secs(300));
        validity.lost();
        assert!(validity.is_suspect() && validity.valid_until().has_passed());
    }

    #[test]
    fn a_grant_ends_a_trouble_and_a_renewal_does_not() {
        let validity = LeaseValidity::new(secs(10));
        assert!(validity.trouble().is_none());
        validity.set_trouble(Some(Error::invalid("in the way")));
        validity.renewed(after(10), secs(10));
        assert!(validity.trouble().is_some());
        validity.granted(after(10), Instant::now());
        assert!(validity.trouble().is_none());
        assert!(!validity.is_retired());
        validity.retire();
        assert!(validity.is_retired());
    }
}

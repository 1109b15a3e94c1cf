//! A lease of a registrar that is no longer renewed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lease_validity::LeaseValidity;
use crate::types::LeaseId;

/// A lease that is no longer renewed. Keys may be attached to it until it expires.
#[derive(Debug)]
pub(super) struct RetiredLease {
    pub(super) id: LeaseId,
    pub(super) validity: Arc<LeaseValidity>,
}

impl RetiredLease {
    /// The time at which the lease has expired.
    pub(super) fn due(&self, now: Instant) -> Instant {
        now + self.validity.valid_until().remaining() + Duration::from_millis(1)
    }
}

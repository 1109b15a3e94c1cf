//! An answered renewal of a lease.

use std::time::Duration;

use super::deadline::Deadline;
use crate::types::LeaseId;
use crate::util::boot_time::BootTime;

/// An answered renewal of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    id: LeaseId,
    ttl: Duration,
    deadline: Deadline,
}

impl Renewal {
    /// The time until which the lease is certain to live.
    pub(super) fn until(&self) -> BootTime {
        self.deadline.time()
    }

    pub(super) fn new(id: LeaseId, ttl: Duration, until: BootTime) -> Self {
        Renewal {
            id,
            ttl,
            deadline: Deadline::at(until),
        }
    }

    /// The id of the lease.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The time to live, counted from the renewal. It can change: a new leader starts with the full time.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The time until which the lease is certain to live. It counts from when the renewal was *sent*;
    /// the server counts from when the renewal arrived, which is later.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}

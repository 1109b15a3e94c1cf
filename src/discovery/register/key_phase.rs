//! The phases of an owned key, and how it is lost. Pure.

use super::key_step::{KeyStep, WriteCondition};
use crate::types::{LeaseId, Revision};

/// The way in which a registrar lost a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyLoss {
    Deleted,
    Overwritten,
    /// Another process registered the same instance under this lease.
    Replaced(LeaseId),
}

/// The phase of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It must be written under this condition.
    ToWrite(WriteCondition),
    /// It must be read, because its value in etcd is not known.
    ToRead,
    /// A step is in flight.
    InFlight(KeyStep),
    /// It is in etcd.
    Held { lease: LeaseId, revision: Revision },
    /// Another process holds it, and keeps it until it releases it.
    Yielded { to: LeaseId },
    /// Another process holds it, and that is an error.
    Conflict(Option<LeaseId>),
    /// The registrar withdrew it, until its instance gets a value again.
    Withdrawn,
    /// The registrar left, and the key is deleted or belongs to another process.
    Released,
}

/// The lease and the revision of a key in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredAt {
    pub(super) lease: LeaseId,
    pub(super) revision: Revision,
}

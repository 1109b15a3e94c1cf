//! The steps by which a registrar changes or reads a key. Pure.

use crate::types::{LeaseId, Revision};

/// The condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteCondition {
    /// The key does not exist.
    Absent,
    /// The key has this mod_revision and this lease. The lease is compared too, because a store that
    /// lost its data counts its revisions anew.
    Unchanged(Revision, Option<LeaseId>),
    /// The key is attached to this lease of the registrar.
    OnLease(LeaseId),
}

/// The next step for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyStep {
    /// Put it under this lease.
    Write(WriteCondition, LeaseId),
    /// Delete it if it is attached to this lease.
    Delete(LeaseId),
    /// Read it.
    Read,
}

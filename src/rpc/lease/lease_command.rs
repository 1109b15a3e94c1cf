//! The commands of the keep-alive task.

use std::time::Duration;

use super::lease_holder::LeaseHolder;
use crate::types::LeaseId;

/// A command to the keep-alive task.
#[derive(Debug)]
pub(super) enum LeaseCommand {
    /// Keeps a lease alive; its first answer must arrive `within` this time.
    Join {
        lease: LeaseId,
        within: Duration,
        holder: LeaseHolder,
    },
    Leave {
        lease: LeaseId,
        number: u64,
    },
}

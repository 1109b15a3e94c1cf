//! The commands that the handles of a registrar send to its worker.

use std::sync::Arc;

use super::leave_group::LeaveReply;
use super::on_conflict::OnConflict;
use super::registration::Shared;

/// A command to the worker of a registrar. Registrations are identified by their numbers.
#[derive(Debug)]
pub(super) enum Command {
    /// Register an instance.
    Add {
        number: u64,
        shared: Arc<Shared>,
        on_conflict: OnConflict,
    },
    /// The instance of this registration was changed.
    Update(u64),
    /// Take one instance out of etcd.
    Leave(u64, LeaveReply),
    /// Take all instances out of etcd.
    LeaveAll(LeaveReply),
}

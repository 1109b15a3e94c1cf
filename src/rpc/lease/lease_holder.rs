//! The task's end of a keep-alive handle.

use super::lease_status::LeaseStatusWriter;

/// The task's end of a [`KeepAlive`](super::keep_alive::KeepAlive).
#[derive(Debug)]
pub(super) struct LeaseHolder {
    pub(super) number: u64,
    pub(super) status: LeaseStatusWriter,
}

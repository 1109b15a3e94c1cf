//! The current and the former leases of a registrar. Pure.

use crate::types::LeaseId;

/// The current and the former leases of a registrar. Keys attached to one of them are its own.
#[derive(Debug, Default)]
pub(super) struct RegistrarLeases {
    pub(super) current: Option<LeaseId>,
    /// RegistrarLeases that still exist. No new key is put under them.
    retired: Vec<LeaseId>,
    past: Vec<LeaseId>,
}

/// The number of past leases that are stored. A key on an older lease has expired.
const REMEMBERED: usize = 16;

impl RegistrarLeases {
    /// Records that the current lease is lost, and returns it.
    pub(super) fn lost(&mut self) -> Option<LeaseId> {
        let lease = self.current.take()?;
        self.remember(lease);
        Some(lease)
    }

    /// Stops putting keys under the current lease, and returns it.
    pub(super) fn retire(&mut self) -> Option<LeaseId> {
        let lease = self.current.take()?;
        self.retired.push(lease);
        Some(lease)
    }

    pub(super) fn retired_lost(&mut self, lease: LeaseId) {
        self.retired.retain(|retired| *retired != lease);
        self.remember(lease);
    }

    fn remember(&mut self, lease: LeaseId) {
        self.past.push(lease);
        if self.past.len() > REMEMBERED {
            self.past.remove(0);
        }
    }

    pub(super) fn lives(&self, lease: LeaseId) -> bool {
        self.current == Some(lease) || self.retired.contains(&lease)
    }

    pub(super) fn is_ours(&self, lease: LeaseId) -> bool {
        self.lives(lease) || self.past.contains(&lease)
    }
}

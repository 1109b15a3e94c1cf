//! The leases that a registrar has and has had. Pure.

use crate::types::LeaseId;

/// The leases a registrar has had: what hangs on one of them is its own.
#[derive(Debug, Default)]
pub(super) struct Leases {
    pub(super) current: Option<LeaseId>,
    /// Those that live, and that nothing is put under any more.
    retired: Vec<LeaseId>,
    past: Vec<LeaseId>,
}

/// So many past leases are remembered. A key on an older one is long expired.
const PAST: usize = 16;

impl Leases {
    /// The current lease is lost.
    pub(super) fn lost(&mut self) -> Option<LeaseId> {
        let lease = self.current.take()?;
        self.remember(lease);
        Some(lease)
    }

    /// Nothing is put under the current lease any more.
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
        if self.past.len() > PAST {
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

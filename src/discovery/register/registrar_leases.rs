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

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(n: i64) -> LeaseId {
        LeaseId::new(n).unwrap()
    }

    #[test]
    fn a_retired_lease_lives_until_it_is_lost_and_stays_its_own() {
        let mut leases = RegistrarLeases::default();
        assert_eq!((leases.retire(), leases.lost()), (None, None));
        for n in [1, 2] {
            leases.current = Some(lease(n));
            assert_eq!(leases.retire(), Some(lease(n)));
        }
        assert_eq!(leases.current, None);
        leases.retired_lost(lease(1));
        assert!(!leases.lives(lease(1)) && leases.lives(lease(2)));
        assert!(leases.is_ours(lease(1)) && leases.is_ours(lease(2)));
        assert!(!leases.is_ours(lease(3)));
    }

    #[test]
    fn the_last_16_leases_are_remembered() {
        let mut leases = RegistrarLeases::default();
        for n in 1..=20 {
            leases.current = Some(lease(n));
            assert_eq!(leases.lost(), Some(lease(n)));
            assert!(!leases.lives(lease(n)));
        }
        let ours: Vec<i64> = (1..=21).filter(|n| leases.is_ours(lease(*n))).collect();
        assert_eq!(ours, (5..=20).collect::<Vec<i64>>());
    }
}

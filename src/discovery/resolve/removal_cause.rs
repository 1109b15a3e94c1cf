//! Decides why keys were deleted, by asking etcd whether their leases exist. Pure.
//!
//! A watch reports the deletion of a key without its cause. If the lease still exists, the key was deleted by
//! a request; otherwise it was deleted with its lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::change::{Cause, Change};
use crate::discovery::instance::Instance;
use crate::types::{LeaseId, Revision};

/// A query to etcd whether a lease still exists.
///
/// Each query must be answered with [`RemovalCauses::lease_status`], even if the answer is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct LeaseQuery {
    /// The lease whose keys were deleted.
    pub(crate) lease: LeaseId,
}

/// The removals whose cause is not known yet.
#[derive(Debug, Default)]
pub(crate) struct RemovalCauses {
    queries: BTreeMap<LeaseId, OpenQuery>,
    /// The lease whose query a deleted key waits for, and the revision of the deletion.
    waiting: BTreeMap<Bytes, (LeaseId, Revision)>,
    /// The same keys by revision.
    by_revision: BTreeSet<(Revision, Bytes)>,
}

/// A query without an answer. It is shared by all instances of the lease.
#[derive(Debug, Default)]
struct OpenQuery {
    /// The instances that were deleted before the query was sent.
    covered: BTreeMap<Bytes, Arc<Instance>>,
    /// The instances that were deleted after that. If the answer is that the lease lives, it shows
    /// nothing about these: the lease may have ended later.
    later: BTreeMap<Bytes, Arc<Instance>>,
}

impl RemovalCauses {
    /// Records that `key`, attached to `lease`, was deleted by `revision`. Returns a query if none is open.
    pub(crate) fn deleted(
        &mut self,
        key: Bytes,
        instance: Arc<Instance>,
        lease: LeaseId,
        revision: Revision,
    ) -> Option<LeaseQuery> {
        self.waiting.insert(key.clone(), (lease, revision));
        self.by_revision.insert((revision, key.clone()));
        match self.queries.get_mut(&lease) {
            Some(query) => {
                // The open query may have been answered before this deletion.
                query.later.insert(key, instance);
                None
            }
            None => {
                let covered = BTreeMap::from([(key, instance)]);
                let later = BTreeMap::new();
                self.queries.insert(lease, OpenQuery { covered, later });
                Some(LeaseQuery { lease })
            }
        }
    }

    /// Takes the removal of `key` if its cause is not known yet, because the key was put again and the
    /// removal must be reported first. The query stays open.
    pub(crate) fn take_waiting(&mut self, key: &[u8]) -> Option<Change> {
        let lease = self.settle(key)?;
        let query = self.queries.get_mut(&lease)?;
        let instance = query
            .covered
            .remove(key)
            .or_else(|| query.later.remove(key))?;
        let cause = Cause::Unknown;
        Some(Change::Removed { instance, cause })
    }

    /// Applies the answer to the query of `lease`: it lives, it is gone, or it is unknown. Returns the
    /// removals, and another query if instances were deleted after this one was sent.
    pub(crate) fn lease_status(
        &mut self,
        lease: LeaseId,
        alive: Option<bool>,
    ) -> (Vec<Change>, Option<LeaseQuery>) {
        let Some(query) = self.queries.remove(&lease) else {
            return (Vec::new(), None);
        };
        let mut removed = query.covered;
        let mut later = query.later;
        let cause = match alive {
            // The key was deleted although its lease exists, so its owner deleted it.
            Some(true) => Cause::Left,
            // A lease that is gone does not return, so the answer holds for all of its keys.
            Some(false) => {
                removed.append(&mut later);
                Cause::Expired
            }
            None => Cause::Unknown,
        };
        let mut changes = Vec::with_capacity(removed.len());
        for (key, instance) in removed {
            self.settle(&key);
            changes.push(Change::Removed { instance, cause });
        }
        // Otherwise another query decides about the later deletions.
        if later.is_empty() {
            return (changes, None);
        }
        let query = OpenQuery {
            covered: later,
            later: BTreeMap::new(),
        };
        self.queries.insert(lease, query);
        (changes, Some(LeaseQuery { lease }))
    }

    /// Records that the removal of `key` is reported. Returns the lease whose query it waited for.
    fn settle(&mut self, key: &[u8]) -> Option<LeaseId> {
        let (key, (lease, revision)) = self.waiting.remove_entry(key)?;
        self.by_revision.remove(&(revision, key));
        Some(lease)
    }

    /// The revision of the first removal that has no cause yet.
    pub(crate) fn first_unexplained(&self) -> Option<Revision> {
        self.by_revision.first().map(|(revision, _)| *revision)
    }

    /// The instances whose removal has no cause yet.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let queries = self.queries.values();
        queries.flat_map(|query| query.covered.values().chain(query.later.values()))
    }

    /// Whether no removal waits for its cause.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64) -> LeaseId {
        LeaseId::new(id).unwrap()
    }

    fn deleted(causes: &mut RemovalCauses, id: &str, on: i64) -> Option<LeaseQuery> {
        let instance = Arc::new(Instance::new("web", "a:1").id(id));
        let key = Bytes::copy_from_slice(id.as_bytes());
        causes.deleted(key, instance, lease(on), Revision::new(on))
    }

    fn summary(changes: &[Change]) -> Vec<(&str, Cause)> {
        let causes = changes.iter().flat_map(Change::causes);
        causes
            .map(|(instance, cause)| (instance.id.as_str(), cause))
            .collect()
    }

    #[test]
    fn removals_of_one_lease_share_one_query() {
        let mut causes = RemovalCauses::default();
        assert_eq!(
            deleted(&mut causes, "a", 1),
            Some(LeaseQuery { lease: lease(1) })
        );
        assert_eq!(deleted(&mut causes, "b", 1), None);
        assert_eq!(
            deleted(&mut causes, "c", 2),
            Some(LeaseQuery { lease: lease(2) })
        );
        let (changes, again) = causes.lease_status(lease(1), Some(false));
        assert_eq!(
            summary(&changes),
            [("a", Cause::Expired), ("b", Cause::Expired)]
        );
        assert_eq!(again, None);
        assert!(!causes.is_empty());
        let (changes, _) = causes.lease_status(lease(2), None);
        assert_eq!(summary(&changes), [("c", Cause::Unknown)]);
        assert!(causes.is_empty());
    }

    #[test]
    fn an_answer_about_a_lease_does_not_apply_to_later_deletions() {
        let mut causes = RemovalCauses::default();
        let _ = deleted(&mut causes, "a", 1);
        assert_eq!(deleted(&mut causes, "b", 1), None);
        let (changes, again) = causes.lease_status(lease(1), Some(true));
        assert_eq!(summary(&changes), [("a", Cause::Left)]);
        assert_eq!(again, Some(LeaseQuery { lease: lease(1) }));
        let (changes, again) = causes.lease_status(lease(1), Some(false));
        assert_eq!(summary(&changes), [("b", Cause::Expired)]);
        assert_eq!(again, None);
    }

    #[test]
    fn a_removal_followed_by_a_put_is_reported_once_and_its_query_stays_open() {
        let mut causes = RemovalCauses::default();
        let _ = deleted(&mut causes, "a", 1);
        let removal = causes.take_waiting(b"a").unwrap();
        assert_eq!(summary(&[removal]), [("a", Cause::Unknown)]);
        assert_eq!(causes.take_waiting(b"a"), None);
        assert!(causes.is_empty());
        // Deleted again while the first query is open: a second query follows it.
        assert_eq!(deleted(&mut causes, "a", 1), None);
        let (changes, again) = causes.lease_status(lease(1), Some(true));
        assert_eq!(summary(&changes), []);
        assert!(again.is_some());
        let (changes, _) = causes.lease_status(lease(1), Some(true));
        assert_eq!(summary(&changes), [("a", Cause::Left)]);
    }

    #[test]
    fn the_first_removal_without_a_cause_is_known() {
        let mut causes = RemovalCauses::default();
        assert_eq!(causes.first_unexplained(), None);
        for (id, on) in [("a", 7), ("b", 5), ("c", 6)] {
            let _ = deleted(&mut causes, id, on);
        }
        assert_eq!(causes.first_unexplained(), Some(Revision::new(5)));
        let _ = causes.lease_status(lease(5), Some(true));
        assert_eq!(causes.first_unexplained(), Some(Revision::new(6)));
        causes.take_waiting(b"c").unwrap();
        assert_eq!(causes.first_unexplained(), Some(Revision::new(7)));
    }

    #[test]
    fn an_answer_without_a_query_is_ignored() {
        let mut causes = RemovalCauses::default();
        assert_eq!(
            causes.lease_status(lease(9), Some(true)),
            (Vec::new(), None)
        );
    }
}

//! Why keys were deleted: what is asked of etcd to find out, and what its answers mean.
//!
//! A watch tells that a key was deleted, not why. If its lease still lives, somebody deleted the
//! key; if it does not, the lease took the key along.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::change::{Cause, Change};
use crate::discovery::instance::Instance;
use crate::types::LeaseId;

/// A lease that etcd must be asked about: does it still live?
///
/// For every one there must be a verdict, even if it is that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct UnexplainedRemoval {
    /// The lease whose keys were deleted.
    pub(crate) lease: LeaseId,
}

/// The removals that wait for their cause.
#[derive(Debug, Default)]
pub(crate) struct RemovalCauses {
    questions: BTreeMap<LeaseId, Question>,
    /// Which question a deleted key waits for.
    waiting: BTreeMap<Bytes, LeaseId>,
}

/// One question on its way, whatever the number of instances the lease had.
#[derive(Debug, Default)]
struct Question {
    /// What was deleted before it was asked.
    covered: BTreeMap<Bytes, Arc<Instance>>,
    /// What was deleted since. That the lease lived when it was asked is no news about these: it may
    /// have ended after that, with them.
    later: BTreeMap<Bytes, Arc<Instance>>,
}

impl RemovalCauses {
    /// Takes note that `key`, on `lease`, was deleted.
    pub(crate) fn deleted(
        &mut self,
        key: Bytes,
        instance: Arc<Instance>,
        lease: LeaseId,
    ) -> Option<UnexplainedRemoval> {
        self.waiting.insert(key.clone(), lease);
        match self.questions.get_mut(&lease) {
            Some(question) => {
                question.later.insert(key, instance);
                None
            }
            None => {
                let covered = BTreeMap::from([(key, instance)]);
                let later = BTreeMap::new();
                self.questions.insert(lease, Question { covered, later });
                Some(UnexplainedRemoval { lease })
            }
        }
    }

    /// The removal of `key`, if it still waits: the key is back, and its removal must be told before
    /// that. The question stays open; its answer must be awaited before the lease is asked about
    /// again.
    pub(crate) fn overtaken(&mut self, key: &[u8]) -> Option<Change> {
        let lease = self.waiting.remove(key)?;
        let question = self.questions.get_mut(&lease)?;
        let instance = question
            .covered
            .remove(key)
            .or_else(|| question.later.remove(key))?;
        let cause = Cause::Unknown;
        Some(Change::Removed { instance, cause })
    }

    /// The answer about `lease`: it lives, it is gone, or nobody knows. What was deleted after the
    /// question may need another one.
    pub(crate) fn verdict(
        &mut self,
        lease: LeaseId,
        alive: Option<bool>,
    ) -> (Vec<Change>, Option<UnexplainedRemoval>) {
        let Some(question) = self.questions.remove(&lease) else {
            return (Vec::new(), None);
        };
        let mut removed = question.covered;
        let mut later = question.later;
        let cause = match alive {
            Some(true) => Cause::Left,
            // A lease that is gone does not come back: the answer holds for all of its keys.
            Some(false) => {
                removed.append(&mut later);
                Cause::Expired
            }
            None => Cause::Unknown,
        };
        let mut changes = Vec::with_capacity(removed.len());
        for (key, instance) in removed {
            self.waiting.remove(&key);
            changes.push(Change::Removed { instance, cause });
        }
        if later.is_empty() {
            return (changes, None);
        }
        let question = Question {
            covered: later,
            later: BTreeMap::new(),
        };
        self.questions.insert(lease, question);
        (changes, Some(UnexplainedRemoval { lease }))
    }

    /// The instances whose removal waits for its cause.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let questions = self.questions.values();
        questions.flat_map(|question| question.covered.values().chain(question.later.values()))
    }

    /// Whether any removal waits for its cause.
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

    fn deleted(causes: &mut RemovalCauses, id: &str, on: i64) -> Option<UnexplainedRemoval> {
        let instance = Arc::new(Instance::new("web", "a:1").id(id));
        causes.deleted(Bytes::copy_from_slice(id.as_bytes()), instance, lease(on))
    }

    fn told(changes: &[Change]) -> Vec<(&str, Cause)> {
        let causes = changes.iter().flat_map(Change::causes);
        causes
            .map(|(instance, cause)| (instance.id.as_str(), cause))
            .collect()
    }

    #[test]
    fn the_instances_of_one_lease_share_one_question() {
        let mut causes = RemovalCauses::default();
        assert_eq!(
            deleted(&mut causes, "a", 1),
            Some(UnexplainedRemoval { lease: lease(1) })
        );
        assert_eq!(deleted(&mut causes, "b", 1), None);
        assert_eq!(
            deleted(&mut causes, "c", 2),
            Some(UnexplainedRemoval { lease: lease(2) })
        );
        let (changes, again) = causes.verdict(lease(1), Some(false));
        assert_eq!(
            told(&changes),
            [("a", Cause::Expired), ("b", Cause::Expired)]
        );
        assert_eq!(again, None);
        assert!(!causes.is_empty());
        let (changes, _) = causes.verdict(lease(2), None);
        assert_eq!(told(&changes), [("c", Cause::Unknown)]);
        assert!(causes.is_empty());
    }

    #[test]
    fn that_a_lease_lived_says_nothing_about_what_was_deleted_later() {
        let mut causes = RemovalCauses::default();
        let _ = deleted(&mut causes, "a", 1);
        assert_eq!(deleted(&mut causes, "b", 1), None);
        let (changes, again) = causes.verdict(lease(1), Some(true));
        assert_eq!(told(&changes), [("a", Cause::Left)]);
        assert_eq!(again, Some(UnexplainedRemoval { lease: lease(1) }));
        let (changes, again) = causes.verdict(lease(1), Some(false));
        assert_eq!(told(&changes), [("b", Cause::Expired)]);
        assert_eq!(again, None);
    }

    #[test]
    fn a_removal_that_is_overtaken_is_told_once_and_its_question_stays_open() {
        let mut causes = RemovalCauses::default();
        let _ = deleted(&mut causes, "a", 1);
        let overtaken = causes.overtaken(b"a").unwrap();
        assert_eq!(told(&[overtaken]), [("a", Cause::Unknown)]);
        assert_eq!(causes.overtaken(b"a"), None);
        assert!(causes.is_empty());
        // Deleted again while the first question is still on its way: a second one comes after it.
        assert_eq!(deleted(&mut causes, "a", 1), None);
        let (changes, again) = causes.verdict(lease(1), Some(true));
        assert_eq!(told(&changes), []);
        assert!(again.is_some());
        let (changes, _) = causes.verdict(lease(1), Some(true));
        assert_eq!(told(&changes), [("a", Cause::Left)]);
    }

    #[test]
    fn an_answer_nobody_asked_for_says_nothing() {
        let mut causes = RemovalCauses::default();
        assert_eq!(causes.verdict(lease(9), Some(true)), (Vec::new(), None));
    }
}

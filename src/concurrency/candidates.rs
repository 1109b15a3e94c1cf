//! Determines the leader of an election from the changes of a mirror. Pure.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::replica::mirror::{KeyChange, MirrorEvent};
use crate::types::{KeyValue, Revision};

/// The candidates of an election, and the last reported leader.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// The candidate with the lowest create_revision leads. If one transaction created several, the
    /// first key leads, in the sort order of etcd.
    queue: BTreeMap<(Revision, Bytes), KeyValue>,
    /// The create_revision of each candidate.
    created: HashMap<Bytes, Revision>,
    /// The key of the reported leader and its mod_revision; `None` before the first report.
    reported: Option<Option<(Bytes, Revision)>>,
}

impl Candidates {
    /// Applies an event, and returns the leaders to report, in order.
    ///
    /// All changes of one revision take effect together: no candidate leads between two of them.
    pub(super) fn on(&mut self, event: MirrorEvent) -> Vec<Option<KeyValue>> {
        let mut leaders = Vec::new();
        match event {
            MirrorEvent::Changed { changes, .. } => {
                for revision in changes.chunk_by(|a, b| a.revision() == b.revision()) {
                    for change in revision {
                        self.change(change);
                    }
                    leaders.extend(self.new_leader());
                }
            }
            // The changes of a reset have no order; only their result was ever true.
            MirrorEvent::Reset { changes, .. } => {
                for change in &changes {
                    self.change(change);
                }
                leaders.extend(self.new_leader());
            }
            MirrorEvent::Stale { .. } | MirrorEvent::Live => {}
        }
        leaders
    }

    fn change(&mut self, change: &KeyChange) {
        let key = change.key();
        // A candidate that was deleted and put again has a new create_revision.
        if let Some(created) = self.created.remove(key) {
            self.queue.remove(&(created, key.clone()));
        }
        if let KeyChange::Put { kv, .. } = change {
            let created = kv.create_revision();
            self.created.insert(key.clone(), created);
            self.queue.insert((created, key.clone()), kv.clone());
        }
    }

    fn new_leader(&mut self) -> Option<Option<KeyValue>> {
        let leader = self.queue.first_key_value().map(|(_, kv)| kv);
        // The mod_revision changes with each proclamation.
        let now = leader.map(|kv| (kv.key().clone(), kv.mod_revision()));
        if self.reported.as_ref() == Some(&now) {
            return None;
        }
        self.reported = Some(now);
        Some(leader.cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, create: i64, modified: i64) -> KeyValue {
        KeyValue {
            key: Bytes::from(key),
            create_revision: create,
            mod_revision: modified,
            ..KeyValue::default()
        }
    }

    fn put(key: &'static str, create: i64, modified: i64) -> KeyChange {
        KeyChange::Put {
            kv: kv(key, create, modified),
            prev: None,
        }
    }

    fn deleted(key: &'static str, revision: i64) -> KeyChange {
        KeyChange::Deleted {
            prev: kv(key, 0, 0),
            revision: Revision::new(revision),
        }
    }

    fn names(leaders: Vec<Option<KeyValue>>) -> Vec<Option<(String, i64)>> {
        let name = |kv: KeyValue| (kv.key_lossy().into_owned(), kv.mod_revision().get());
        leaders.into_iter().map(|kv| kv.map(name)).collect()
    }

    fn changed(changes: Vec<KeyChange>) -> MirrorEvent {
        let revision = Revision::NONE;
        MirrorEvent::Changed { revision, changes }
    }

    fn reset(changes: Vec<KeyChange>) -> MirrorEvent {
        let revision = Revision::NONE;
        let cause = crate::replica::mirror::ResetCause::Relisted;
        MirrorEvent::Reset {
            revision,
            cause,
            changes,
        }
    }

    #[test]
    fn the_oldest_candidate_leads_and_each_proclamation_is_reported() {
        let mut all = Candidates::default();
        assert_eq!(names(all.on(reset(vec![]))), [None]);
        assert_eq!(
            names(all.on(changed(vec![
                put("a", 2, 2),
                put("b", 3, 3),
                put("a", 2, 4)
            ]))),
            [Some(("a".into(), 2)), Some(("a".into(), 4))]
        );
        assert_eq!(names(all.on(changed(vec![put("b", 3, 5)]))), []);
        assert_eq!(
            names(all.on(changed(vec![deleted("a", 6), deleted("b", 7)]))),
            [Some(("b".into(), 5)), None]
        );
    }

    // Fault: W4
    #[test]
    fn the_changes_of_one_transaction_are_reported_as_one_change() {
        let mut all = Candidates::default();
        let candidates = ["a", "b", "c", "d", "e"].into_iter().zip(2..);
        let begun = candidates.map(|(key, n)| put(key, n, n)).collect();
        assert_eq!(names(all.on(reset(begun))), [Some(("a".into(), 2))]);
        assert_eq!(
            names(all.on(changed(vec![deleted("a", 7), deleted("b", 7)]))),
            [Some(("c".into(), 4))]
        );
        // Two revisions in one event are two changes.
        assert_eq!(
            names(all.on(changed(vec![
                deleted("c", 8),
                put("f", 8, 8),
                deleted("d", 9),
                deleted("e", 9)
            ]))),
            [Some(("d".into(), 5)), Some(("f".into(), 8))]
        );
    }

    #[test]
    fn of_candidates_created_by_one_transaction_the_first_key_leads() {
        let mut all = Candidates::default();
        assert_eq!(
            names(all.on(changed(vec![put("b", 2, 2), put("a", 2, 2)]))),
            [Some(("a".into(), 2))]
        );
        assert_eq!(
            names(all.on(changed(vec![put("a", 2, 3)]))),
            [Some(("a".into(), 3))]
        );
    }

    #[test]
    fn a_reset_reports_only_the_present_leader() {
        let mut all = Candidates::default();
        all.on(reset(vec![put("a", 2, 2), put("b", 3, 3)]));
        assert_eq!(
            names(all.on(reset(vec![deleted("a", 9), put("c", 9, 9)]))),
            [Some(("b".into(), 3))]
        );
        assert!(all.on(reset(vec![])).is_empty());
        assert!(all.on(MirrorEvent::Live).is_empty());
    }
}

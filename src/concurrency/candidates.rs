//! Who campaigns, as a mirror tells it, and so who leads. It does no I/O.

use std::collections::HashMap;

use bytes::Bytes;

use crate::mirror::{KeyChange, MirrorEvent};
use crate::types::{KeyValue, Revision};

/// The candidates of an election, and what was said last about who leads.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    all: HashMap<Bytes, KeyValue>,
    /// The leader's key and its last change; `None` when nothing was said yet.
    said: Option<Option<(Bytes, Revision)>>,
}

impl Candidates {
    /// Takes note, and returns the leaders to tell about, in order.
    pub(super) fn on(&mut self, event: MirrorEvent) -> Vec<Option<KeyValue>> {
        let mut told = Vec::new();
        match event {
            // What happened one by one is told one by one.
            MirrorEvent::Changed { changes, .. } => {
                for change in changes {
                    self.change(change);
                    told.extend(self.news());
                }
            }
            // A difference has no order; only its end was ever true.
            MirrorEvent::Reset { changes, .. } => {
                for change in changes {
                    self.change(change);
                }
                told.extend(self.news());
            }
            MirrorEvent::Stale { .. } | MirrorEvent::Live => {}
        }
        told
    }

    fn change(&mut self, change: KeyChange) {
        match change {
            KeyChange::Put { kv, .. } => drop(self.all.insert(kv.key().clone(), kv)),
            KeyChange::Deleted { prev, .. } => drop(self.all.remove(prev.key())),
        }
    }

    fn news(&mut self) -> Option<Option<KeyValue>> {
        let leader = self.all.values().min_by_key(|kv| kv.create_revision());
        let now = leader.map(|kv| (kv.key().clone(), kv.mod_revision()));
        if self.said.as_ref() == Some(&now) {
            return None;
        }
        self.said = Some(now);
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

    fn deleted(key: &'static str) -> KeyChange {
        KeyChange::Deleted {
            prev: kv(key, 0, 0),
            revision: Revision::NONE,
        }
    }

    fn names(told: Vec<Option<KeyValue>>) -> Vec<Option<(String, i64)>> {
        let name = |kv: KeyValue| (kv.key_lossy().into_owned(), kv.mod_revision().get());
        told.into_iter().map(|kv| kv.map(name)).collect()
    }

    fn changed(changes: Vec<KeyChange>) -> MirrorEvent {
        let revision = Revision::NONE;
        MirrorEvent::Changed { revision, changes }
    }

    fn reset(changes: Vec<KeyChange>) -> MirrorEvent {
        let revision = Revision::NONE;
        MirrorEvent::Reset { revision, changes }
    }

    #[test]
    fn the_oldest_leads_and_every_proclamation_is_told() {
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
            names(all.on(changed(vec![deleted("a"), deleted("b")]))),
            [Some(("b".into(), 5)), None]
        );
    }

    #[test]
    fn a_picture_made_anew_tells_only_what_is_true_now() {
        let mut all = Candidates::default();
        all.on(reset(vec![put("a", 2, 2), put("b", 3, 3)]));
        assert_eq!(
            names(all.on(reset(vec![deleted("a"), put("c", 9, 9)]))),
            [Some(("b".into(), 3))]
        );
        assert!(all.on(reset(vec![])).is_empty());
        assert!(all.on(MirrorEvent::Live).is_empty());
    }
}

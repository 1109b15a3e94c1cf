//! The picture itself: a pure map that lists and events are applied to.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::event::KeyChange;
use crate::rpc::watch::{Event, EventKind};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

type Keys = BTreeMap<Bytes, KeyValue>;

/// A range of keys as it was at one revision. Cheap to clone; it never changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    keys: Arc<Keys>,
    revision: Revision,
}

impl Snapshot {
    /// The revision it shows. Every write up to it is in it.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The value of one key.
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    /// All keys, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &KeyValue> {
        self.keys.values()
    }

    /// Those of its keys that are in `range`, in their order.
    pub fn range(&self, range: &KeyRange) -> impl Iterator<Item = &KeyValue> {
        // What is in the range is in one piece, from its first key on.
        self.keys
            .range::<[u8], _>((Bound::Included(&range.start()[..]), Bound::Unbounded))
            .take_while(|(key, _)| range.contains(key))
            .map(|(_, kv)| kv)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Replaces everything by a list.
    pub(super) fn reset(&mut self, list: Vec<KeyValue>, revision: Revision) {
        let own = list.into_iter().map(|kv| kv.detached());
        self.keys = Arc::new(own.map(|kv| (kv.key().clone(), kv)).collect());
        self.revision = revision;
    }

    /// Moves on without a change.
    pub(super) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Applies events, all of whole revisions.
    pub(super) fn apply(&mut self, events: &[Event], revision: Revision) -> Vec<KeyChange> {
        // Copies the map only while somebody still holds an older snapshot of it.
        let keys = Arc::make_mut(&mut self.keys);
        let mut changes = Vec::with_capacity(events.len());
        for event in events {
            if event.kind() == EventKind::Put {
                let kv = event.kv().detached();
                let prev = keys.insert(kv.key().clone(), kv.clone());
                changes.push(KeyChange::Put { kv, prev });
            } else if let Some(prev) = keys.remove(event.key()) {
                changes.push(KeyChange::Deleted {
                    prev,
                    revision: event.revision(),
                });
            }
        }
        self.revision = revision;
        changes
    }

    /// What leads from `before` to here.
    pub(super) fn difference(&self, before: &Snapshot) -> Vec<KeyChange> {
        let gone = before
            .keys
            .values()
            .filter(|kv| !self.keys.contains_key(kv.key()));
        let deleted = gone.map(|prev| KeyChange::Deleted {
            prev: prev.clone(),
            revision: self.revision,
        });
        let mut changes: Vec<_> = deleted.collect();
        for kv in self.keys.values() {
            match before.keys.get(kv.key()) {
                Some(prev) if prev == kv => {}
                prev => changes.push(KeyChange::Put {
                    kv: kv.clone(),
                    prev: prev.cloned(),
                }),
            }
        }
        changes.sort_by(|a, b| a.key().cmp(b.key()));
        changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kv(key: u8, version: i64) -> KeyValue {
        KeyValue {
            key: vec![key].into(),
            version,
            ..KeyValue::default()
        }
    }

    fn replay(onto: &mut Keys, changes: &[KeyChange]) {
        for change in changes {
            match change {
                KeyChange::Put { kv, .. } => {
                    onto.insert(kv.key().clone(), kv.clone());
                }
                KeyChange::Deleted { prev, .. } => {
                    assert!(
                        onto.remove(prev.key()).is_some(),
                        "deleted what was not there"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_difference_leads_exactly_from_one_picture_to_the_other(
            before in prop::collection::btree_map(0u8..20, 0i64..3, 0..15),
            after in prop::collection::btree_map(0u8..20, 0i64..3, 0..15),
        ) {
            let picture = |keys: &BTreeMap<u8, i64>, revision| {
                let mut picture = Snapshot::default();
                picture.reset(keys.iter().map(|(k, v)| kv(*k, *v)).collect(), Revision::new(revision));
                picture
            };
            let (old, new) = (picture(&before, 1), picture(&after, 2));
            let changes = new.difference(&old);
            let mut replayed = (*old.keys).clone();
            replay(&mut replayed, &changes);
            prop_assert_eq!(&replayed, &*new.keys);
            let differing = (0u8..20).filter(|k| before.get(k) != after.get(k)).count();
            prop_assert_eq!(changes.len(), differing);
        }
    }

    #[test]
    fn a_range_of_it_is_what_the_range_contains() {
        let mut picture = Snapshot::default();
        picture.reset((0..10).map(|key| kv(key, 1)).collect(), Revision::new(5));
        for range in [
            KeyRange::key(vec![3]),
            KeyRange::key(vec![3, 0]),
            KeyRange::range(vec![2], vec![5]),
            KeyRange::from_key(vec![7]),
            KeyRange::prefix(vec![4]),
            KeyRange::all(),
        ] {
            let expected = picture.iter().filter(|kv| range.contains(kv.key()));
            assert!(picture.range(&range).eq(expected), "{range}");
        }
    }

    // Fault: W9
    #[test]
    fn what_is_kept_does_not_keep_the_reply_that_it_came_in() {
        let mut picture = Snapshot::default();
        let reply = Bytes::from(vec![b'k'; 1 << 20]);
        let listed = KeyValue {
            key: reply.slice(..1),
            value: reply.slice(1..10),
            ..KeyValue::default()
        };
        picture.reset(vec![listed.clone()], Revision::new(5));
        let kept = picture.get(b"k").map(KeyValue::value);
        assert_eq!(kept, Some(listed.value()));
        drop(listed);
        assert!(reply.is_unique());
    }

    // Case: LS-07
    #[test]
    fn a_snapshot_that_is_held_does_not_change() {
        let mut picture = Snapshot::default();
        picture.reset(vec![kv(1, 1)], Revision::new(5));
        let held = picture.clone();
        picture.reset(vec![], Revision::new(6));
        assert_eq!((held.len(), held.revision()), (1, Revision::new(5)));
        assert!(picture.is_empty());
    }
}

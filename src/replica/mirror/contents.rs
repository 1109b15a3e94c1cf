//! Contents of a mirror: a map to which lists and events are applied.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::event::KeyChange;
use crate::rpc::watch::{Event, EventKind};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// The key values in the order of their keys. A map would keep each key twice.
type Keys = BTreeSet<Keyed>;

/// A key value, which is ordered and found by its key.
#[derive(Clone, Debug)]
struct Keyed(KeyValue);

impl Borrow<[u8]> for Keyed {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl Ord for Keyed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

impl PartialOrd for Keyed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Keyed {}

/// Immutable contents of a key range at one revision. Cloning is cheap.
///
/// ```no_run
/// use etcd_blocking::{Client, KeyRange};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let mirror = client.mirror(KeyRange::prefix("flags/"))?;
/// let snapshot = mirror.snapshot();
/// println!("{} flags at revision {}", snapshot.len(), snapshot.revision());
/// for kv in snapshot.iter() {
///     println!("{:?}", kv.key());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    keys: Arc<Keys>,
    revision: Revision,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.iter().eq(other.iter())
    }
}

impl Snapshot {
    /// The revision of the contents, which include every write up to it.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The key value of one key, if it exists.
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key).map(|keyed| &keyed.0)
    }

    /// All key values, in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &KeyValue> {
        self.keys.iter().map(|keyed| &keyed.0)
    }

    /// The key values whose keys are in `range`, in the order of their keys.
    pub fn range(&self, range: &KeyRange) -> impl Iterator<Item = &KeyValue> {
        // The keys of a range are contiguous, from its start on.
        self.keys
            .range::<[u8], _>((Bound::Included(&range.start()[..]), Bound::Unbounded))
            .map(|keyed| &keyed.0)
            .take_while(|kv| range.contains(kv.key()))
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Replaces the contents with a list.
    pub(super) fn reset(&mut self, list: Vec<KeyValue>, revision: Revision) {
        // A listed key is a slice of the reply, which it would keep in memory.
        let own = list.into_iter().map(|kv| kv.detached());
        self.keys = Arc::new(own.map(Keyed).collect());
        self.revision = revision;
    }

    /// Advances the revision without a change.
    pub(super) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Applies the events of whole revisions and returns the changes.
    pub(super) fn apply(&mut self, events: &[Event], revision: Revision) -> Vec<KeyChange> {
        // `make_mut` copies the map only while another snapshot shares it.
        let keys = Arc::make_mut(&mut self.keys);
        let mut changes = Vec::with_capacity(events.len());
        for event in events {
            if event.kind() == EventKind::Put {
                let kv = event.kv().detached();
                let prev = keys.replace(Keyed(kv.clone())).map(|keyed| keyed.0);
                changes.push(KeyChange::Put { kv, prev });
            // A key that was put and deleted before the list is not in the map.
            } else if let Some(Keyed(prev)) = keys.take(&event.key()[..]) {
                changes.push(KeyChange::Deleted {
                    prev,
                    revision: event.revision(),
                });
            }
        }
        self.revision = revision;
        changes
    }

    /// The changes from `before` to this snapshot, in the order of their keys.
    pub(super) fn difference(&self, before: &Snapshot) -> Vec<KeyChange> {
        let missing = before.iter().filter(|kv| self.get(kv.key()).is_none());
        let deleted = missing.map(|prev| KeyChange::Deleted {
            prev: prev.clone(),
            revision: self.revision,
        });
        let mut changes: Vec<_> = deleted.collect();
        for kv in self.iter() {
            match before.get(kv.key()) {
                Some(prev) if prev == kv => {}
                prev => changes.push(KeyChange::Put {
                    kv: kv.clone(),
                    prev: prev.cloned(),
                }),
            }
        }
        // Sorted by key: deletions and puts are of different keys.
        changes.sort_by(|a, b| a.key().cmp(b.key()));
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
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
                    onto.replace(Keyed(kv.clone()));
                }
                KeyChange::Deleted { prev, .. } => {
                    assert!(
                        onto.take(&prev.key()[..]).is_some(),
                        "deleted what was not there"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_difference_leads_exactly_from_one_snapshot_to_the_other(
            before in prop::collection::btree_map(0u8..20, 0i64..3, 0..15),
            after in prop::collection::btree_map(0u8..20, 0i64..3, 0..15),
        ) {
            let snapshot = |keys: &BTreeMap<u8, i64>, revision| {
                let mut snapshot = Snapshot::default();
                snapshot.reset(keys.iter().map(|(k, v)| kv(*k, *v)).collect(), Revision::new(revision));
                snapshot
            };
            let (old, new) = (snapshot(&before, 1), snapshot(&after, 2));
            let changes = new.difference(&old);
            let mut replayed = (*old.keys).clone();
            replay(&mut replayed, &changes);
            let replayed = replayed.iter().map(|keyed| &keyed.0);
            prop_assert!(replayed.eq(new.iter()));
            let differing = (0u8..20).filter(|k| before.get(k) != after.get(k)).count();
            prop_assert_eq!(changes.len(), differing);
        }
    }

    #[test]
    fn range_returns_the_keys_that_the_range_contains() {
        let mut snapshot = Snapshot::default();
        snapshot.reset((0..10).map(|key| kv(key, 1)).collect(), Revision::new(5));
        for range in [
            KeyRange::key(vec![3]),
            KeyRange::key(vec![3, 0]),
            KeyRange::range(vec![2], vec![5]),
            KeyRange::from_key(vec![7]),
            KeyRange::prefix(vec![4]),
            KeyRange::all(),
        ] {
            let expected = snapshot.iter().filter(|kv| range.contains(kv.key()));
            assert!(snapshot.range(&range).eq(expected), "{range}");
        }
    }

    // Fault: W9
    #[test]
    fn contents_do_not_hold_the_reply_buffer() {
        let mut snapshot = Snapshot::default();
        let reply = Bytes::from(vec![b'k'; 1 << 20]);
        let listed = KeyValue {
            key: reply.slice(..1),
            value: reply.slice(1..10),
            ..KeyValue::default()
        };
        snapshot.reset(vec![listed.clone()], Revision::new(5));
        let value = snapshot.get(b"k").map(KeyValue::value);
        assert_eq!(value, Some(listed.value()));
        drop(listed);
        assert!(reply.is_unique());
    }

    #[test]
    fn snapshots_are_equal_if_the_contents_and_the_revision_are() {
        let snapshot = |keys: &[(u8, i64)], revision| {
            let mut snapshot = Snapshot::default();
            let list = keys.iter().map(|(key, version)| kv(*key, *version));
            snapshot.reset(list.collect(), Revision::new(revision));
            snapshot
        };
        let two = snapshot(&[(1, 1), (2, 1)], 5);
        assert_eq!(two, snapshot(&[(2, 1), (1, 1)], 5));
        assert_ne!(two, snapshot(&[(1, 1), (2, 1)], 6));
        assert_ne!(two, snapshot(&[(1, 1), (2, 2)], 5));
        assert_ne!(two, snapshot(&[(1, 1)], 5));
        assert_eq!((two.len(), two.is_empty()), (2, false));
        let none = Snapshot::default();
        assert_eq!((none.len(), none.is_empty()), (0, true));
    }

    #[test]
    fn the_revision_advances_without_changes_and_never_goes_back() {
        let mut snapshot = Snapshot::default();
        snapshot.reset(vec![kv(1, 1)], Revision::new(5));
        for (revision, then) in [(5, 5), (8, 8), (7, 8)] {
            snapshot.advance(Revision::new(revision));
            assert_eq!(snapshot.revision(), Revision::new(then));
        }
        assert_eq!(snapshot.len(), 1);
    }

    // Case: LS-07
    #[test]
    fn a_snapshot_that_is_held_does_not_change() {
        let mut snapshot = Snapshot::default();
        snapshot.reset(vec![kv(1, 1)], Revision::new(5));
        let held = snapshot.clone();
        snapshot.reset(vec![], Revision::new(6));
        assert_eq!((held.len(), held.revision()), (1, Revision::new(5)));
        assert!(snapshot.is_empty());
    }
}

//! Contents of a mirror: a set of key values to which lists and events are applied.

use super::event::KeyChange;
use super::key_tree::{self, Difference, KeyTree, Remains};
use crate::rpc::watch::{Event, EventKind};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, Revision};

/// Immutable contents of a key range at one revision. Cloning is cheap.
///
/// A snapshot and the contents that follow share what has not changed, so a snapshot that is held does not slow down
/// the mirror.
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
    keys: KeyTree,
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
        self.keys.get(key)
    }

    /// All key values, in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &KeyValue> {
        Iter {
            kvs: self.keys.iter(),
            left: self.keys.len(),
        }
    }

    /// The key values whose keys are in `range`, in the order of their keys.
    pub fn range(&self, range: &KeyRange) -> impl Iterator<Item = &KeyValue> {
        // The keys of a range are contiguous, from its start on.
        let kvs = self.keys.iter_from(range.start());
        kvs.take_while(|kv| range.contains(kv.key()))
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.len() == 0
    }

    pub(super) fn new(keys: KeyTree, revision: Revision) -> Self {
        Snapshot { keys, revision }
    }

    /// Advances the revision without a change.
    pub(super) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Applies the events of whole revisions and returns the changes.
    pub(super) fn apply(&mut self, events: &[Event], revision: Revision) -> Vec<KeyChange> {
        let mut changes = Vec::with_capacity(events.len());
        for event in events {
            if event.kind() == EventKind::Put {
                let kv = event.kv().detached();
                let prev = self.keys.insert(kv.clone());
                changes.push(KeyChange::Put { kv, prev });
            // A key that was put and deleted before the list is not in the contents.
            } else if let Some(prev) = self.keys.remove(event.key()) {
                changes.push(KeyChange::Deleted {
                    prev,
                    revision: event.revision(),
                });
            }
        }
        self.revision = revision;
        changes
    }

    /// The changes from `before` to this snapshot.
    pub(super) fn difference(self, before: Snapshot) -> Difference {
        Difference::new(before.keys, self.keys, self.revision)
    }

    /// The contents, to be freed in steps.
    pub(super) fn into_remains(self) -> Remains {
        Remains::new(self.keys)
    }
}

/// The key values of a snapshot, whose number is known.
struct Iter<'a> {
    kvs: key_tree::Iter<'a>,
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a KeyValue;

    fn next(&mut self) -> Option<&'a KeyValue> {
        self.left = self.left.saturating_sub(1);
        self.kvs.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::etcd_rs_proto::mvccpb;

    fn kv(key: u8, version: i64) -> KeyValue {
        KeyValue {
            key: vec![key].into(),
            version,
            ..KeyValue::default()
        }
    }

    fn snapshot(list: impl IntoIterator<Item = KeyValue>, revision: i64) -> Snapshot {
        Snapshot::new(list.into_iter().collect(), Revision::new(revision))
    }

    #[test]
    fn range_returns_the_keys_that_the_range_contains() {
        let snapshot = snapshot((0..10).map(|key| kv(key, 1)), 5);
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

    #[test]
    fn snapshots_are_equal_if_the_contents_and_the_revision_are() {
        let snapshot = |keys: &[(u8, i64)], revision| {
            snapshot(
                keys.iter().map(|(key, version)| kv(*key, *version)),
                revision,
            )
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
        let mut snapshot = snapshot([kv(1, 1)], 5);
        for (revision, then) in [(5, 5), (8, 8), (7, 8)] {
            snapshot.advance(Revision::new(revision));
            assert_eq!(snapshot.revision(), Revision::new(then));
        }
        assert_eq!(snapshot.len(), 1);
    }

    // Case: LS-07
    #[test]
    fn a_snapshot_that_is_held_does_not_change() {
        let mut contents = snapshot([kv(1, 1), kv(2, 1)], 5);
        let held = contents.clone();
        let put = mvccpb::Event {
            kv: Some(mvccpb::KeyValue {
                key: vec![1].into(),
                version: 2,
                mod_revision: 6,
                ..Default::default()
            }),
            ..Default::default()
        };
        let deleted = mvccpb::Event {
            r#type: mvccpb::event::EventType::Delete.into(),
            kv: Some(mvccpb::KeyValue {
                key: vec![2].into(),
                mod_revision: 6,
                ..Default::default()
            }),
            ..Default::default()
        };
        let events = [put, deleted].map(|event| Event::read(event).unwrap());
        let changes = contents.apply(&events, Revision::new(6));
        assert_eq!(changes.len(), 2);
        assert_eq!((contents.len(), contents.revision()), (1, Revision::new(6)));
        assert_eq!(held, snapshot([kv(1, 1), kv(2, 1)], 5));
        assert_eq!(held.get(&[2]), Some(&kv(2, 1)));
        assert_eq!(contents.get(&[2]), None);
        assert_eq!(held.iter().len(), 2);
    }
}

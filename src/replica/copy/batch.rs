//! Which changes travel in one transaction.

use std::collections::HashSet;

use bytes::Bytes;

use crate::types::Revision;

/// What is done to a key of the destination.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Put(Bytes, Bytes),
    Delete(Bytes),
}

/// What a change takes in a request besides its key and value, generously.
const OVERHEAD: usize = 32;

impl Change {
    pub(super) fn key(&self) -> &Bytes {
        match self {
            Change::Put(key, _) | Change::Delete(key) => key,
        }
    }

    fn size(&self) -> usize {
        let value = match self {
            Change::Put(_, value) => value.len(),
            Change::Delete(_) => 0,
        };
        OVERHEAD + self.key().len() + value
    }
}

/// What fits into one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Operations in a list.
    pub(super) list: usize,
    pub(super) bytes: usize,
}

impl Limits {
    /// How many operations nested lists hold: three levels share what a path may hold.
    fn most(self) -> usize {
        self.list.max((self.list / 3).saturating_pow(3))
    }
}

/// Changes that are to be written in one transaction.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    /// Everything up to here is written when this is.
    pub(super) upto: Option<Revision>,
}

/// Puts whole revisions together while they fit, and takes apart what does not fit alone.
///
/// Small revisions share a transaction as long as they touch different keys, because etcd refuses a
/// key twice in one: so the copy has every version of every key.
#[derive(Debug)]
pub(super) struct Batcher {
    limits: Limits,
    open: Batch,
    keys: HashSet<Bytes>,
    bytes: usize,
}

impl Batcher {
    pub(super) fn new(limits: Limits) -> Self {
        Batcher {
            limits,
            open: Batch::default(),
            keys: HashSet::new(),
            bytes: 0,
        }
    }

    /// Adds what happened at one revision; returns what is to be written first.
    pub(super) fn add(&mut self, changes: Vec<Change>, upto: Option<Revision>) -> Vec<Batch> {
        let mut ready = Vec::new();
        let size: usize = changes.iter().map(Change::size).sum();
        let mut distinct = HashSet::with_capacity(changes.len());
        let repeats = !changes.iter().all(|change| distinct.insert(change.key()));
        let shares = !repeats
            && self.bytes + size <= self.limits.bytes
            && self.open.changes.len() + changes.len() <= self.limits.list
            && changes
                .iter()
                .all(|change| !self.keys.contains(change.key()));
        if !shares {
            ready.extend(self.flush());
        }
        for change in changes {
            let full = self.bytes + change.size() > self.limits.bytes
                || self.open.changes.len() >= self.limits.most()
                || self.keys.contains(change.key());
            if full {
                // Too much for one transaction, so this revision is seen in parts.
                ready.extend(self.flush());
            }
            self.bytes += change.size();
            self.keys.insert(change.key().clone());
            self.open.changes.push(change);
        }
        self.open.upto = upto.or(self.open.upto);
        ready
    }

    /// What is left.
    pub(super) fn flush(&mut self) -> Option<Batch> {
        self.keys.clear();
        self.bytes = 0;
        let batch = std::mem::take(&mut self.open);
        (batch != Batch::default()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn apply(store: &mut BTreeMap<Bytes, Bytes>, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(key, value) => drop(store.insert(key.clone(), value.clone())),
                Change::Delete(key) => drop(store.remove(key)),
            }
        }
    }

    fn revisions() -> impl Strategy<Value = Vec<Vec<Change>>> {
        let change = prop_oneof![
            3 => (0u8..12, 0usize..40).prop_map(|(key, len)| {
                Change::Put(vec![key].into(), vec![key; len].into())
            }),
            1 => (0u8..12).prop_map(|key| Change::Delete(vec![key].into())),
        ];
        prop::collection::vec(prop::collection::vec(change, 1..20), 0..20)
    }

    proptest! {
        #[test]
        fn what_is_written_adds_up_to_what_happened_and_every_transaction_is_one_that_etcd_takes(
            revisions in revisions(),
            list in 1usize..12,
            bytes in 50usize..600,
        ) {
            let limits = Limits { list, bytes };
            let mut batcher = Batcher::new(limits);
            let mut batches = Vec::new();
            let mut expected = vec![BTreeMap::new()];
            for (changes, number) in revisions.iter().zip(1..) {
                batches.extend(batcher.add(changes.clone(), Some(Revision::new(number))));
                let mut store = expected.last().unwrap().clone();
                apply(&mut store, changes);
                expected.push(store);
            }
            batches.extend(batcher.flush());
            let mut store = BTreeMap::new();
            let mut all = Vec::new();
            for batch in &batches {
                let keys: HashSet<_> = batch.changes.iter().map(Change::key).collect();
                prop_assert_eq!(keys.len(), batch.changes.len(), "a key twice");
                let size: usize = batch.changes.iter().map(Change::size).sum();
                prop_assert!(size <= bytes || batch.changes.len() == 1);
                prop_assert!(batch.changes.len() <= limits.most());
                apply(&mut store, &batch.changes);
                all.extend(batch.changes.clone());
                if let Some(upto) = batch.upto {
                    // Whoever stops here can go on after it.
                    let revision = usize::try_from(upto.get()).unwrap();
                    let then = revisions[revision - 1].last().unwrap();
                    prop_assert_eq!(batch.changes.last(), Some(then));
                }
            }
            prop_assert_eq!(all, revisions.concat());
            prop_assert_eq!(&store, expected.last().unwrap());
        }

        #[test]
        fn a_revision_that_fits_is_never_taken_apart(revisions in revisions()) {
            let mut batcher = Batcher::new(Limits { list: 12, bytes: 10_000 });
            let mut batches = Vec::new();
            for (mut changes, number) in revisions.into_iter().zip(1..) {
                changes.sort_by(|a, b| a.key().cmp(b.key()));
                changes.dedup_by(|a, b| a.key() == b.key());
                batches.extend(batcher.add(changes, Some(Revision::new(number))));
            }
            batches.extend(batcher.flush());
            prop_assert!(batches.iter().all(|batch| batch.upto.is_some()));
        }
    }
}

//! Grouping of changes into transactions.

use std::collections::HashSet;

use bytes::Bytes;

use crate::types::Revision;

/// A write to one key of the destination.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum KeyWrite {
    Put(Bytes, Bytes),
    Delete(Bytes),
}

/// Upper bound for the encoding of a change besides its key and value, in bytes.
const OVERHEAD: usize = 32;

impl KeyWrite {
    pub(super) fn key(&self) -> &Bytes {
        match self {
            KeyWrite::Put(key, _) | KeyWrite::Delete(key) => key,
        }
    }

    fn size(&self) -> usize {
        let value = match self {
            KeyWrite::Put(_, value) => value.len(),
            KeyWrite::Delete(_) => 0,
        };
        OVERHEAD + self.key().len() + value
    }
}

/// TxnLimits of one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct TxnLimits {
    /// Maximum number of operations in a list.
    pub(super) list: usize,
    pub(super) bytes: usize,
}

impl TxnLimits {
    /// Maximum number of operations in nested lists: etcd counts the operations along a path, so three
    /// levels share the limit.
    fn max_nested(self) -> usize {
        self.list.max((self.list / 3).saturating_pow(3))
    }
}

/// Changes for one transaction.
#[derive(Debug, Default, PartialEq)]
pub(super) struct CopyBatch {
    pub(super) changes: Vec<KeyWrite>,
    /// The revision that is complete once the batch is written, if any.
    pub(super) upto: Option<Revision>,
}

/// Groups whole revisions into transactions, and splits a revision that is too large for one.
///
/// Revisions share a transaction only while they change different keys, because etcd refuses a transaction
/// that puts a key twice. So the copy gets every version of every key.
#[derive(Debug)]
pub(super) struct Batcher {
    limits: TxnLimits,
    open: CopyBatch,
    keys: HashSet<Bytes>,
    bytes: usize,
}

impl Batcher {
    pub(super) fn new(limits: TxnLimits) -> Self {
        Batcher {
            limits,
            open: CopyBatch::default(),
            keys: HashSet::new(),
            bytes: 0,
        }
    }

    /// Adds the changes of one revision; returns the batches that are complete.
    pub(super) fn add(&mut self, changes: Vec<KeyWrite>, upto: Option<Revision>) -> Vec<CopyBatch> {
        let mut ready = Vec::new();
        let size: usize = changes.iter().map(KeyWrite::size).sum();
        let mut distinct = HashSet::with_capacity(changes.len());
        let repeats = !changes.iter().all(|change| distinct.insert(change.key()));
        // etcd refuses two puts of one key in a transaction, so the keys of a batch must be
        // distinct.
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
                || self.open.changes.len() >= self.limits.max_nested()
                || self.keys.contains(change.key());
            if full {
                // The revision is too large for one transaction, so it is split.
                ready.extend(self.flush());
            }
            self.bytes += change.size();
            self.keys.insert(change.key().clone());
            self.open.changes.push(change);
        }
        self.open.upto = upto.or(self.open.upto);
        ready
    }

    /// Returns the open batch, if it has any change.
    pub(super) fn flush(&mut self) -> Option<CopyBatch> {
        self.keys.clear();
        self.bytes = 0;
        let batch = std::mem::take(&mut self.open);
        (batch != CopyBatch::default()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn apply(store: &mut BTreeMap<Bytes, Bytes>, changes: &[KeyWrite]) {
        for change in changes {
            match change {
                KeyWrite::Put(key, value) => drop(store.insert(key.clone(), value.clone())),
                KeyWrite::Delete(key) => drop(store.remove(key)),
            }
        }
    }

    fn revisions() -> impl Strategy<Value = Vec<Vec<KeyWrite>>> {
        let change = prop_oneof![
            3 => (0u8..12, 0usize..40).prop_map(|(key, len)| {
                KeyWrite::Put(vec![key].into(), vec![key; len].into())
            }),
            1 => (0u8..12).prop_map(|key| KeyWrite::Delete(vec![key].into())),
        ];
        prop::collection::vec(prop::collection::vec(change, 1..20), 0..20)
    }

    proptest! {
        #[test]
        fn batches_contain_all_changes_in_order_and_etcd_accepts_each_of_them(
            revisions in revisions(),
            list in 1usize..12,
            bytes in 50usize..600,
        ) {
            let limits = TxnLimits { list, bytes };
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
                let keys: HashSet<_> = batch.changes.iter().map(KeyWrite::key).collect();
                prop_assert_eq!(keys.len(), batch.changes.len(), "a key twice");
                let size: usize = batch.changes.iter().map(KeyWrite::size).sum();
                prop_assert!(size <= bytes || batch.changes.len() == 1);
                prop_assert!(batch.changes.len() <= limits.max_nested());
                apply(&mut store, &batch.changes);
                all.extend(batch.changes.clone());
                if let Some(upto) = batch.upto {
                    // A copy that stops here can resume after `upto`.
                    let revision = usize::try_from(upto.get()).unwrap();
                    let then = revisions[revision - 1].last().unwrap();
                    prop_assert_eq!(batch.changes.last(), Some(then));
                }
            }
            prop_assert_eq!(all, revisions.concat());
            prop_assert_eq!(&store, expected.last().unwrap());
        }

        #[test]
        fn a_revision_that_fits_is_never_split(revisions in revisions()) {
            let mut batcher = Batcher::new(TxnLimits { list: 12, bytes: 10_000 });
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

    #[test]
    fn revisions_share_a_batch_up_to_the_limit_of_bytes() {
        let put =
            |key: &'static str, value: usize| KeyWrite::Put(key.into(), vec![b'v'; value].into());
        let delete = KeyWrite::Delete("key".into());
        assert_eq!(put("key", 70).size(), OVERHEAD + 3 + 70);
        assert_eq!(
            (delete.size(), delete.key().as_ref()),
            (OVERHEAD + 3, &b"key"[..])
        );
        let both = put("a", 10).size() + put("b", 10).size();
        for (bytes, shares) in [(both, true), (both - 1, false)] {
            let mut batcher = Batcher::new(TxnLimits { list: 10, bytes });
            assert!(batcher.add(vec![put("a", 10)], None).is_empty());
            let ready = batcher.add(vec![put("b", 10)], None);
            assert_eq!(ready.is_empty(), shares, "{bytes}");
        }
        // The same within a revision, which is then split.
        for (bytes, shares) in [(both, true), (both - 1, false)] {
            let mut batcher = Batcher::new(TxnLimits { list: 10, bytes });
            let ready = batcher.add(vec![put("a", 10), put("b", 10)], None);
            assert_eq!(ready.is_empty(), shares, "{bytes}");
        }
    }

    #[test]
    fn three_levels_of_lists_share_the_limit_of_operations() {
        let most = |list| TxnLimits { list, bytes: 0 }.max_nested();
        assert_eq!((most(3), most(12), most(128)), (3, 64, 42 * 42 * 42));
    }
}

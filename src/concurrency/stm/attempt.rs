//! One attempt of a transaction, in memory: the keys it read, the writes of its commit, and the
//! comparisons that make the commit fail after a conflict. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::rpc::kv::{Compare, Delete, Op, Put};
use crate::types::{KeyValue, LeaseId, Revision};

/// The conflicts from which a transaction of an [`Stm`](crate::concurrency::Stm) is protected.
///
/// | level | reads | the commit fails when |
/// |---|---|---|
/// | `SerializableSnapshot` | all show one revision | a key that was read or written has changed since |
/// | `Serializable` | all show one revision | a key that was read has changed since |
/// | `RepeatableReads` | each shows a committed value, and repeating it returns the same | a key that was read has changed since |
/// | `ReadCommitted` | as `RepeatableReads` | never |
///
/// At the first three levels, committed transactions are serializable: the result is as if they had run
/// one after the other. `ReadCommitted` can lose updates. Use it for writes that do not depend on the
/// values that were read.
///
/// ```no_run
/// use etcd_blocking::concurrency::{Isolation, Stm};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let visits = Stm::new(&client).isolation(Isolation::Serializable).run(|tx| {
///     let visits = tx.get("visits")?.map_or(0, |value| value.len());
///     tx.put("visits", "x".repeat(visits + 1));
///     Ok(visits)
/// })?;
/// println!("{} in {} attempts", visits.value(), visits.attempts());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// The default: serializable, and the keys that it writes have not changed since its first read.
    #[default]
    SerializableSnapshot,
    /// All reads show one revision, and the keys that were read have not changed when it commits.
    Serializable,
    /// The keys that were read have not changed when it commits. Before the commit, the function may
    /// see values of different revisions.
    RepeatableReads,
    /// Reads return committed values, which may be old, and the commit never fails.
    ReadCommitted,
}

impl Isolation {
    /// Whether all reads of an attempt show one revision.
    fn reads_one_revision(self) -> bool {
        matches!(
            self,
            Isolation::SerializableSnapshot | Isolation::Serializable
        )
    }
}

/// The revision that the next read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadAt {
    /// The newest revision: a linearizable read.
    Newest,
    /// The revision of the member that answers: a serializable read.
    Local,
    /// This revision.
    Pinned(Revision),
}

/// The condition of the commit on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Its mod_revision is the one that was read; [`Revision::NONE`] if the key did not exist.
    Unchanged(Revision),
    /// Its mod_revision is at most this revision.
    NotAfter(Revision),
}

impl Guard {
    pub(super) fn compare(self, key: Bytes) -> Compare {
        match self {
            Guard::Unchanged(at) => Compare::mod_revision(key).eq(at),
            // etcd has no operator `<=`.
            Guard::NotAfter(at) => Compare::mod_revision(key).lt(at.next()),
        }
    }

    /// Returns whether a key with this mod_revision satisfies the guard.
    pub(super) fn holds(self, mod_revision: Revision) -> bool {
        match self {
            Guard::Unchanged(at) => mod_revision == at,
            Guard::NotAfter(at) => mod_revision <= at,
        }
    }
}

/// A write of the commit. The last write to a key counts.
#[derive(Clone, PartialEq)]
pub(super) enum Write {
    Put(Bytes, Option<LeaseId>),
    Delete,
}

/// Keys with their values in etcd; `None` for a key that does not exist.
pub(super) type Fetched = BTreeMap<Bytes, Option<KeyValue>>;

#[derive(Clone)]
pub(super) struct Attempt {
    isolation: Isolation,
    /// The keys that were fetched, including prefetched keys that the function has not read.
    fetched: Fetched,
    /// The keys that the function has read.
    read: BTreeSet<Bytes>,
    writes: BTreeMap<Bytes, Write>,
    /// The revision of the first answer. At the levels with one revision, all reads show this one.
    base: Option<Revision>,
    /// The attempt follows a conflict. Its reads are linearizable, because the values of a member that is
    /// behind would cause the same conflict.
    is_retry: bool,
}

impl Attempt {
    pub(super) fn new(isolation: Isolation, is_retry: bool) -> Self {
        Attempt {
            isolation,
            fetched: Fetched::new(),
            read: BTreeSet::new(),
            writes: BTreeMap::new(),
            base: None,
            is_retry,
        }
    }

    pub(super) fn read_at(&self) -> ReadAt {
        match self.base {
            Some(base) if self.isolation.reads_one_revision() => ReadAt::Pinned(base),
            _ if self.isolation.reads_one_revision() || self.is_retry => ReadAt::Newest,
            _ => ReadAt::Local,
        }
    }

    /// Records the answer to a read at `revision`.
    pub(super) fn record(&mut self, revision: Revision, found: Fetched) {
        // Later reads use the revision of the first one.
        self.base.get_or_insert(revision);
        for (key, kv) in found {
            // A value that the function may have seen does not change during an attempt.
            self.fetched.entry(key).or_insert(kv);
        }
    }

    /// The value that the attempt writes to this key; `Some(None)` for a deletion.
    pub(super) fn written(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.writes.get(key).map(|write| match write {
            Write::Put(value, _) => Some(value.clone()),
            Write::Delete => None,
        })
    }

    pub(super) fn is_fetched(&self, key: &[u8]) -> bool {
        self.fetched.contains_key(key)
    }

    /// Returns a key that [was fetched](Attempt::is_fetched). From now on the commit depends on it.
    pub(super) fn read(&mut self, key: &Bytes) -> Option<&KeyValue> {
        if !self.read.contains(key) {
            self.read.insert(key.clone());
        }
        self.fetched.get(key)?.as_ref()
    }

    pub(super) fn write(&mut self, key: Bytes, write: Write) {
        self.writes.insert(key, write);
    }

    /// The keys that the function has read.
    pub(super) fn read_keys(&self) -> impl Iterator<Item = &Bytes> {
        self.read.iter()
    }

    /// Returns whether there are no writes and the reads are consistent without a commit.
    pub(super) fn needs_no_commit(&self) -> bool {
        let sound =
            self.isolation.reads_one_revision() || self.isolation == Isolation::ReadCommitted;
        sound && self.writes.is_empty()
    }

    /// The revision of its first read.
    pub(super) fn base(&self) -> Option<Revision> {
        self.base
    }

    pub(super) fn guards(&self) -> Vec<(Bytes, Guard)> {
        if self.isolation == Isolation::ReadCommitted {
            return Vec::new();
        }
        let unchanged = |key: &Bytes| {
            let kv = self.fetched.get(key).and_then(Option::as_ref);
            let at = kv.map_or(Revision::NONE, KeyValue::mod_revision);
            (key.clone(), Guard::Unchanged(at))
        };
        let mut guards: Vec<_> = self.read.iter().map(unchanged).collect();
        if let (Isolation::SerializableSnapshot, Some(base)) = (self.isolation, self.base) {
            // Keys that are written and not read: nothing but the base shows when they last
            // changed.
            let blind = self.writes.keys().filter(|key| !self.read.contains(*key));
            guards.extend(blind.map(|key| (key.clone(), Guard::NotAfter(base))));
        }
        guards
    }

    pub(super) fn ops(&self) -> Vec<Op> {
        let op = |(key, write): (&Bytes, &Write)| match write {
            Write::Put(value, lease) => {
                let put = Put::new(key.clone(), value.clone());
                match lease {
                    Some(lease) => put.lease(*lease).into(),
                    None => put.into(),
                }
            }
            Write::Delete => Delete::key(key.clone()).into(),
        };
        self.writes.iter().map(op).collect()
    }

    #[cfg(test)]
    pub(super) fn writes(&self) -> &BTreeMap<Bytes, Write> {
        &self.writes
    }
}

#[cfg(test)]
mod tests {
    use super::Isolation::{ReadCommitted, RepeatableReads, Serializable, SerializableSnapshot};
    use super::*;

    /// An attempt that has read at revision 7, and then at 9.
    fn after_reads(isolation: Isolation, is_retry: bool) -> Attempt {
        let mut attempt = Attempt::new(isolation, is_retry);
        let kv = |value: &'static str| {
            Some(KeyValue {
                key: "a".into(),
                value: value.into(),
                ..KeyValue::default()
            })
        };
        attempt.record(Revision::new(7), Fetched::from([("a".into(), kv("1"))]));
        attempt.record(Revision::new(9), Fetched::from([("a".into(), kv("2"))]));
        attempt
    }

    #[test]
    fn the_level_decides_at_which_revision_the_next_read_is() {
        for is_retry in [false, true] {
            for level in [SerializableSnapshot, Serializable] {
                let first = Attempt::new(level, is_retry);
                assert_eq!((first.read_at(), first.base()), (ReadAt::Newest, None));
                let later = after_reads(level, is_retry);
                assert_eq!(later.read_at(), ReadAt::Pinned(Revision::new(7)));
            }
            for level in [RepeatableReads, ReadCommitted] {
                let newest = if is_retry {
                    ReadAt::Newest
                } else {
                    ReadAt::Local
                };
                assert_eq!(Attempt::new(level, is_retry).read_at(), newest);
                assert_eq!(after_reads(level, is_retry).read_at(), newest);
            }
        }
    }

    #[test]
    fn a_value_that_was_fetched_does_not_change_during_an_attempt() {
        let mut attempt = after_reads(ReadCommitted, false);
        assert_eq!(attempt.base(), Some(Revision::new(7)));
        assert!(attempt.is_fetched(b"a") && !attempt.is_fetched(b"b"));
        assert_eq!(attempt.read_keys().count(), 0);
        let value = attempt.read(&"a".into()).map(|kv| kv.value().clone());
        assert_eq!(value, Some("1".into()));
        assert_eq!(attempt.read_keys().count(), 1);
    }

    #[test]
    fn only_consistent_reads_without_writes_need_no_commit() {
        for level in [
            SerializableSnapshot,
            Serializable,
            RepeatableReads,
            ReadCommitted,
        ] {
            let mut attempt = after_reads(level, false);
            assert_eq!(
                attempt.needs_no_commit(),
                level != RepeatableReads,
                "{level:?}"
            );
            assert_eq!((attempt.written(b"a"), attempt.ops().len()), (None, 0));
            attempt.write("a".into(), Write::Put("3".into(), None));
            attempt.write("b".into(), Write::Delete);
            assert!(!attempt.needs_no_commit());
            assert_eq!(attempt.written(b"a"), Some(Some("3".into())));
            assert_eq!(attempt.written(b"b"), Some(None));
            assert_eq!(attempt.ops().len(), 2);
        }
    }
}

//! One attempt of a transaction in memory: what it read, what it will write, and which comparisons
//! make the commit fail when somebody else was in between.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::rpc::kv::{Compare, Delete, Op, Put};
use crate::types::{KeyValue, LeaseId, Revision};

/// What a transaction of an [`Stm`](crate::concurrency::Stm) is protected from.
///
/// | level | reads | the commit fails when |
/// |---|---|---|
/// | `SerializableSnapshot` | all show one revision | a key that was read or written has changed since |
/// | `Serializable` | all show one revision | a key that was read has changed since |
/// | `RepeatableReads` | each shows its key at some time, and stays | a key that was read has changed since |
/// | `ReadCommitted` | as before, and may be behind | never |
///
/// At the first three levels the transactions that commit are serializable: their outcome is that of
/// running them one after the other. `ReadCommitted` loses updates, and is for writes that do not
/// depend on what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// Serializable, and the keys that it writes are unchanged since its first read (the default).
    #[default]
    SerializableSnapshot,
    /// Serializable: it reads one revision, and what it read is unchanged when it commits.
    Serializable,
    /// What it read is unchanged when it commits; but until then it may have seen values that never
    /// were there at the same time.
    RepeatableReads,
    /// It reads what was committed at some time, and its commit never fails.
    ReadCommitted,
}

impl Isolation {
    /// Whether all reads of an attempt show one revision.
    fn pins(self) -> bool {
        matches!(
            self,
            Isolation::SerializableSnapshot | Isolation::Serializable
        )
    }
}

/// How the next read is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadAt {
    /// What every acknowledged write is in.
    Newest,
    /// What the member that is asked has.
    Local,
    /// The store as it was.
    Pinned(Revision),
}

/// What the commit demands of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Its last change is the one that was read; [`Revision::NONE`] when it was not there.
    Unchanged(Revision),
    /// Its last change is not after this revision.
    NotAfter(Revision),
}

impl Guard {
    pub(super) fn compare(self, key: Bytes) -> Compare {
        match self {
            Guard::Unchanged(at) => Compare::mod_revision(key).eq(at),
            Guard::NotAfter(at) => Compare::mod_revision(key).lt(at.next()),
        }
    }

    /// Whether it holds for a key that last changed then.
    pub(super) fn holds(self, mod_revision: Revision) -> bool {
        match self {
            Guard::Unchanged(at) => mod_revision == at,
            Guard::NotAfter(at) => mod_revision <= at,
        }
    }
}

/// What an attempt does to a key; the last write to a key counts.
#[derive(Clone, PartialEq)]
pub(super) enum Write {
    Put(Bytes, Option<LeaseId>),
    Delete,
}

pub(super) type Found = BTreeMap<Bytes, Option<KeyValue>>;

#[derive(Clone)]
pub(super) struct Attempt {
    isolation: Isolation,
    /// What is known of keys, be it asked for or fetched in advance.
    known: Found,
    /// What the transaction has looked at.
    read: BTreeSet<Bytes>,
    writes: BTreeMap<Bytes, Write>,
    /// The revision of the first answer: what all reads show at the levels that promise it.
    base: Option<Revision>,
    /// An attempt after a conflict does not read what a member that is behind has: it would fail
    /// again until that has caught up.
    again: bool,
}

impl Attempt {
    pub(super) fn new(isolation: Isolation, again: bool) -> Self {
        Attempt {
            isolation,
            known: Found::new(),
            read: BTreeSet::new(),
            writes: BTreeMap::new(),
            base: None,
            again,
        }
    }

    pub(super) fn read_at(&self) -> ReadAt {
        match self.base {
            Some(base) if self.isolation.pins() => ReadAt::Pinned(base),
            _ if self.isolation.pins() || self.again => ReadAt::Newest,
            _ => ReadAt::Local,
        }
    }

    /// Takes the answer to a read, which the store gave at `revision`.
    pub(super) fn learn(&mut self, revision: Revision, found: Found) {
        self.base.get_or_insert(revision);
        for (key, kv) in found {
            self.known.entry(key).or_insert(kv);
        }
    }

    /// What it will have written to this key: `Some(None)` is a deletion.
    pub(super) fn written(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.writes.get(key).map(|write| match write {
            Write::Put(value, _) => Some(value.clone()),
            Write::Delete => None,
        })
    }

    pub(super) fn knows(&self, key: &[u8]) -> bool {
        self.known.contains_key(key)
    }

    /// Looks at a key that it [knows](Attempt::knows): from now on the commit depends on it.
    pub(super) fn look(&mut self, key: &Bytes) -> Option<&KeyValue> {
        if !self.read.contains(key) {
            self.read.insert(key.clone());
        }
        self.known.get(key)?.as_ref()
    }

    pub(super) fn write(&mut self, key: Bytes, write: Write) {
        self.writes.insert(key, write);
    }

    /// Every key it looked at.
    pub(super) fn looked_at(&self) -> impl Iterator<Item = &Bytes> {
        self.read.iter()
    }

    /// Whether what it saw is a consistent answer already, with nothing to send.
    pub(super) fn needs_no_commit(&self) -> bool {
        let sound = self.isolation.pins() || self.isolation == Isolation::ReadCommitted;
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
            let kv = self.known.get(key).and_then(Option::as_ref);
            let at = kv.map_or(Revision::NONE, KeyValue::mod_revision);
            (key.clone(), Guard::Unchanged(at))
        };
        let mut guards: Vec<_> = self.read.iter().map(unchanged).collect();
        if let (Isolation::SerializableSnapshot, Some(base)) = (self.isolation, self.base) {
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

//! The position of a contender in a queue of keys. Pure.
//!
//! The order of contenders is that of the create_revisions of their keys, which are unique in etcd. A
//! contender waits for the newest key that is older than its own, and reads the queue again when that
//! key is gone, because earlier contenders may still be there.

use bytes::Bytes;

use crate::rpc::kv::{Compare, Get, Put, SortOrder, SortTarget, Txn};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, LeaseId, Revision};

/// The key of a contender, and the range of keys that it waits for if they are older.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PositionRequest {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) lease: LeaseId,
    /// The range of keys that come first if they are older.
    pub(super) before: KeyRange,
}

/// The position of a contender whose key exists.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QueuePosition {
    pub(super) key: Bytes,
    /// The create_revision of the key: the number of this position, and its fencing token.
    pub(super) revision: Revision,
    pub(super) before: KeyRange,
}

/// The key for which a contender waits.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum QueueTurn {
    /// Nothing: it is first.
    Ours,
    /// It waits at least until this key is gone.
    After(Bytes),
    /// Its key is gone, or is not the one that it put.
    Gone,
}

impl PositionRequest {
    /// Puts the key, or reads it if it exists: an earlier attempt or this session may have put it. The
    /// second response contains the first key in the range.
    pub(super) fn enqueue(&self) -> Txn {
        Txn::when([Compare::create_revision(self.key.clone()).eq(Revision::NONE)])
            .then([self.put()])
            .then([self.first()])
            .or_else([Get::key(self.key.clone()), self.first()])
    }

    /// Puts the key only if the range is empty; otherwise reads the first key in the range.
    pub(super) fn enqueue_if_first(&self) -> Txn {
        Txn::when([Compare::version(self.before.clone()).eq(0)])
            .then([self.put()])
            .or_else([self.first(), Get::key(self.key.clone())])
    }

    pub(super) fn position(&self, revision: Revision) -> QueuePosition {
        QueuePosition {
            key: self.key.clone(),
            revision,
            before: self.before.clone(),
        }
    }

    fn put(&self) -> Put {
        Put::new(self.key.clone(), self.value.clone()).lease(self.lease)
    }

    fn first(&self) -> Get {
        first(self.before.clone())
    }
}

/// Reads the first key of a queue.
pub(super) fn first(range: KeyRange) -> Get {
    Get::range(range)
        .sort(SortTarget::CreateRevision, SortOrder::Ascend)
        .limit(1)
}

impl QueuePosition {
    /// Reads our own key and the key to wait for, at one revision.
    pub(super) fn read_turn(&self) -> Txn {
        let older = Revision::new(self.revision.get().saturating_sub(1));
        let next = Get::range(self.before.clone())
            .sort(SortTarget::CreateRevision, SortOrder::Descend)
            .limit(1)
            .max_create_revision(older)
            .keys_only();
        Txn::always([Get::key(self.key.clone()).keys_only(), next])
    }

    /// Returns the key to wait for, given our own key and the newest older one.
    pub(super) fn turn(&self, own: Option<&KeyValue>, older: Option<&KeyValue>) -> QueueTurn {
        if own.is_none_or(|own| own.create_revision() != self.revision) {
            return QueueTurn::Gone;
        }
        match older {
            Some(older) if older.create_revision() < self.revision => {
                QueueTurn::After(older.key().clone())
            }
            _ => QueueTurn::Ours,
        }
    }

    /// Whether this contender is first, given the first key in the range.
    pub(super) fn is_ours(&self, first: Option<&KeyValue>) -> bool {
        first.is_none_or(|first| first.create_revision() >= self.revision)
    }

    /// A condition that is true while our key is the one that we put.
    pub(super) fn guard(&self) -> Compare {
        Compare::create_revision(self.key.clone()).eq(self.revision)
    }
}

#[cfg(test)]
mod tests;

//! A place in a queue of keys, and whose turn it is. It does no I/O.
//!
//! Who put a key first goes first: the create revision is the number that one draws, and etcd never
//! gives one twice. A contender waits for the youngest key that is older than its own, and looks again
//! when that is gone: whoever was in front of it may have left before.

use bytes::Bytes;

use crate::rpc::kv::{Compare, Get, Put, SortOrder, SortTarget, Txn};
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, LeaseId, Revision};

/// What somebody queues with: a key, and the keys that go before it when they are older.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PositionRequest {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) lease: LeaseId,
    /// Older keys in here go first.
    pub(super) before: KeyRange,
}

/// A ticket that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QueuePosition {
    pub(super) key: Bytes,
    /// When the key was created: the number of this place, and its fencing token.
    pub(super) revision: Revision,
    pub(super) before: KeyRange,
}

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum QueueTurn {
    /// Ours.
    Ours,
    /// Ours when this key is gone, at the earliest.
    After(Bytes),
    /// Never: our key is gone, or it is not the one that we put.
    Gone,
}

impl PositionRequest {
    /// Draws the ticket, or finds it drawn: by an attempt whose answer was lost, or by this session
    /// before. The second answer tells who is first of those that go before.
    pub(super) fn draw(&self) -> Txn {
        Txn::when([Compare::create_revision(self.key.clone()).eq(Revision::NONE)])
            .then([self.put()])
            .then([self.first()])
            .or_else([Get::key(self.key.clone()), self.first()])
    }

    /// Draws the ticket only when nobody goes before; else tells who.
    pub(super) fn draw_if_first(&self) -> Txn {
        Txn::when([Compare::version(self.before.clone()).eq(0)])
            .then([self.put()])
            .or_else([self.first(), Get::key(self.key.clone())])
    }

    pub(super) fn place(&self, revision: Revision) -> QueuePosition {
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

/// Who is first in a queue.
pub(super) fn first(range: KeyRange) -> Get {
    Get::range(range)
        .sort(SortTarget::CreateRevision, SortOrder::Ascend)
        .limit(1)
}

impl QueuePosition {
    /// Reads our own key and the one to wait for, at one revision.
    pub(super) fn look(&self) -> Txn {
        let older = Revision::new(self.revision.get().saturating_sub(1));
        let next = Get::range(self.before.clone())
            .sort(SortTarget::CreateRevision, SortOrder::Descend)
            .limit(1)
            .max_create_revision(older)
            .keys_only();
        Txn::always([Get::key(self.key.clone()).keys_only(), next])
    }

    /// What it says, given our key and the youngest older one.
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

    /// Whether it is ours, given the first of those that go before.
    pub(super) fn is_ours(&self, first: Option<&KeyValue>) -> bool {
        first.is_none_or(|first| first.create_revision() >= self.revision)
    }

    /// Holds while our key is the one that we put.
    pub(super) fn guard(&self) -> Compare {
        Compare::create_revision(self.key.clone()).eq(self.revision)
    }
}

#[cfg(test)]
mod tests;

//! What a mirror tells its reader.

use std::time::Instant;

use crate::types::{KeyValue, Revision};

/// A step of a [`Mirror`](crate::Mirror).
///
/// Whoever applies all of them to an empty map, in order, has what
/// [`snapshot`](crate::Mirror::snapshot) has.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MirrorEvent {
    /// Everything that happened at one or a few revisions, in order.
    Changed {
        /// The last of them.
        revision: Revision,
        /// What happened.
        changes: Vec<KeyChange>,
    },
    /// The picture was made anew: the first list, a list after history was compacted or the store
    /// lost data, or the way out of a queue that its reader let grow. The changes are the exact
    /// difference to what was told before, in the order of the keys; they may be none.
    Reset {
        /// The revision of the new picture.
        revision: Revision,
        /// The difference.
        changes: Vec<KeyChange>,
    },
    /// The mirror cannot follow any more. What it has is kept.
    Stale {
        /// Since when it may be behind.
        since: Instant,
    },
    /// The mirror follows again.
    Live,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum KeyChange {
    /// It has a new value.
    Put {
        /// As it is now.
        kv: KeyValue,
        /// As it was, if it was.
        prev: Option<KeyValue>,
    },
    /// It is gone.
    Deleted {
        /// As it was.
        prev: KeyValue,
        /// When it was deleted, or when it was found gone.
        revision: Revision,
    },
}

impl KeyChange {
    /// The key it is about.
    pub fn key(&self) -> &bytes::Bytes {
        match self {
            KeyChange::Put { kv, .. } => kv.key(),
            KeyChange::Deleted { prev, .. } => prev.key(),
        }
    }

    /// When it happened; of a key that was found gone, when it was found.
    pub fn revision(&self) -> Revision {
        match self {
            KeyChange::Put { kv, .. } => kv.mod_revision(),
            KeyChange::Deleted { revision, .. } => *revision,
        }
    }

    /// Its size in memory, roughly.
    pub(super) fn size(&self) -> usize {
        let of = |kv: &KeyValue| size_of::<KeyValue>() + kv.key().len() + kv.value().len();
        match self {
            KeyChange::Put { kv, prev } => of(kv) + prev.as_ref().map_or(0, of),
            KeyChange::Deleted { prev, .. } => of(prev),
        }
    }
}

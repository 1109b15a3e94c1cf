//! What a mirror tells its reader.

use std::time::Instant;

use crate::types::{KeyValue, Revision};

/// A step of a [`Mirror`](crate::mirror::Mirror).
///
/// Whoever applies all of them to an empty map, in order, has what
/// [`snapshot`](crate::mirror::Mirror::snapshot) has.
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
    /// The contents were listed anew, or the queue of a slow reader was full. The changes are the exact
    /// difference to what was told before, in the order of the keys; they may be none.
    Reset {
        /// The revision of the new contents. It is lower than before when the store was rewound.
        revision: Revision,
        /// Why there is a difference instead of the changes one by one.
        cause: ResetCause,
        /// The difference.
        changes: Vec<KeyChange>,
    },
    /// The mirror cannot follow now, and goes on trying. What it has is kept.
    /// [`Mirror::last_error`](crate::mirror::Mirror::last_error) says why.
    Stale {
        /// Since when it may be behind.
        since: Instant,
    },
    /// The mirror follows again.
    Live,
}

/// Why a [`MirrorEvent::Reset`] was told. When there are several reasons, it is the last of this list
/// that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ResetCause {
    /// The queue was full, because its reader was slow.
    Overflow,
    /// The watch could not go on where it was: history was compacted meanwhile, or the permission to
    /// read was withdrawn for a time.
    Relisted,
    /// It is the first one: the changes lead from nothing to what there is.
    First,
    /// The store was replaced: it lost data, was restored from a backup, or is that of another cluster.
    Rewound,
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

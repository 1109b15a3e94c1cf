//! Events that a mirror reports.

use std::time::Instant;

use crate::types::{KeyValue, Revision};

/// One event of a [`Mirror`](crate::mirror::Mirror).
///
/// All events, applied in order to an empty map, lead to the contents of
/// [`Mirror::snapshot`](crate::mirror::Mirror::snapshot).
///
/// ```no_run
/// use etcd_blocking::KeyRange;
/// use etcd_blocking::mirror::MirrorEvent;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let mirror = client.mirror(KeyRange::prefix("config/"))?;
/// for event in mirror.changes() {
///     match event? {
///         MirrorEvent::Reset { changes, .. } | MirrorEvent::Changed { changes, .. } => {
///             println!("{} keys changed", changes.len());
///         }
///         MirrorEvent::Stale { .. } => println!("the contents may be old"),
///         MirrorEvent::Live => println!("up to date again"),
///         _ => {}
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MirrorEvent {
    /// All changes of one or several revisions, in order.
    Changed {
        /// The last of these revisions.
        revision: Revision,
        /// The changes.
        changes: Vec<KeyChange>,
    },
    /// The contents were listed again, or the queue of a slow reader was full. The changes are the exact
    /// difference to the contents that the previous events led to, in the order of the keys; there may be
    /// none.
    Reset {
        /// The revision of the new contents. It may be lower than before when the store was rewound.
        revision: Revision,
        /// The reason why the difference is reported instead of each change.
        cause: ResetCause,
        /// The difference.
        changes: Vec<KeyChange>,
    },
    /// The contents may be stale from now on; they are kept, and the mirror retries.
    /// [`Mirror::last_error`](crate::mirror::Mirror::last_error) returns the reason.
    Stale {
        /// The time since which the contents may be stale.
        since: Instant,
    },
    /// The watch is live again.
    Live,
}

/// Cause of a [`MirrorEvent::Reset`]. Of several causes, the last one in the order below is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ResetCause {
    /// The queue was full because the reader was slow.
    Overflow,
    /// The watch could not resume: history was compacted, or the permission to read was revoked for a time.
    Relisted,
    /// It is the first event: the changes lead from an empty map to the contents.
    First,
    /// The store was replaced: it lost data, was restored from a backup, or belongs to another cluster.
    Rewound,
}

/// Change of one key.
///
/// ```no_run
/// use etcd_blocking::mirror::KeyChange;
///
/// fn describe(change: &KeyChange) -> String {
///     match change {
///         KeyChange::Put { kv, .. } => format!("{:?} was put", kv.key()),
///         KeyChange::Deleted { prev, .. } => format!("{:?} was deleted", prev.key()),
///         _ => "another change".to_owned(),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum KeyChange {
    /// The key was put.
    Put {
        /// The new key value.
        kv: KeyValue,
        /// The previous key value, if the key existed.
        prev: Option<KeyValue>,
    },
    /// The key was deleted, or its lease ended.
    Deleted {
        /// The last key value.
        prev: KeyValue,
        /// The revision of the deletion; in a `Reset`, the revision of the list without the key.
        revision: Revision,
    },
}

impl KeyChange {
    /// The changed key.
    pub fn key(&self) -> &bytes::Bytes {
        match self {
            KeyChange::Put { kv, .. } => kv.key(),
            KeyChange::Deleted { prev, .. } => prev.key(),
        }
    }

    /// The revision of the change; for a deletion in a `Reset`, the revision of the list without the key.
    pub fn revision(&self) -> Revision {
        match self {
            KeyChange::Put { kv, .. } => kv.mod_revision(),
            KeyChange::Deleted { revision, .. } => *revision,
        }
    }

    /// The approximate size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        let of = |kv: &KeyValue| size_of::<KeyValue>() + kv.key().len() + kv.value().len();
        match self {
            KeyChange::Put { kv, prev } => of(kv) + prev.as_ref().map_or(0, of),
            KeyChange::Deleted { prev, .. } => of(prev),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_change_counts_both_values() {
        let kv = |value: &'static str| KeyValue {
            key: "key".into(),
            value: value.into(),
            ..KeyValue::default()
        };
        let one = size_of::<KeyValue>() + 3;
        let put = |prev| KeyChange::Put {
            kv: kv("12345"),
            prev,
        };
        let deleted = KeyChange::Deleted {
            prev: kv("1"),
            revision: Revision::new(7),
        };
        assert_eq!(put(None).size(), one + 5);
        assert_eq!(put(Some(kv("12"))).size(), one + 5 + one + 2);
        assert_eq!(deleted.size(), one + 1);
    }
}

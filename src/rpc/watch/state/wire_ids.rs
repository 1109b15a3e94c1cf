//! The server's ids of the watches of a stream.

use std::collections::{BTreeMap, BTreeSet};

use crate::rpc::watch::watch_id::WatchId;

/// A server that sends messages for this many unknown watches violates the protocol.
const MAX_UNKNOWN: usize = 100_000;

/// The watches of a stream by the server's ids.
#[derive(Debug, Default)]
pub(super) struct WireIds {
    live: BTreeMap<i64, WatchId>,
    /// The ids that were cancelled on this stream.
    cancelled: BTreeSet<i64>,
}

/// Too many messages were for unknown watches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyUnknown;

impl WireIds {
    /// Whether the server has no watch of the stream.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub(super) fn get(&self, wire_id: i64) -> Option<WatchId> {
        self.live.get(&wire_id).copied()
    }

    /// The watches that the server has.
    pub(super) fn watches(&self) -> impl Iterator<Item = WatchId> {
        self.live.values().copied()
    }

    pub(super) fn insert(&mut self, wire_id: i64, id: WatchId) {
        self.live.insert(wire_id, id);
    }

    /// Removes a watch that the server has cancelled.
    pub(super) fn remove(&mut self, wire_id: i64) {
        self.live.remove(&wire_id);
    }

    /// Records that a watch is cancelled. Returns whether a request has to be sent: one is enough.
    pub(super) fn cancel(&mut self, wire_id: i64) -> bool {
        self.live.remove(&wire_id);
        self.cancelled.insert(wire_id)
    }

    /// Records that an id is not cancelled any more: the cancellation was answered, or the server uses the
    /// id for another watch.
    pub(super) fn cancelled_ended(&mut self, wire_id: i64) {
        self.cancelled.remove(&wire_id);
    }

    /// Records a message for a watch that is cancelled or unknown. Returns whether the watch has to be
    /// cancelled: the server may still send to a watch whose cancellation is in flight.
    pub(super) fn unknown(&mut self, wire_id: i64) -> Result<bool, TooManyUnknown> {
        if self.cancelled.len() >= MAX_UNKNOWN {
            return Err(TooManyUnknown);
        }
        Ok(wire_id >= 0 && self.cancelled.insert(wire_id))
    }

    /// Forgets all ids, which belonged to a stream that has ended.
    pub(super) fn clear(&mut self) {
        *self = WireIds::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_cancelled_with_one_request_until_its_id_is_used_again() {
        let mut wire_ids = WireIds::default();
        wire_ids.insert(1, 10);
        assert_eq!((wire_ids.get(1), wire_ids.is_empty()), (Some(10), false));
        assert!(wire_ids.cancel(1) && !wire_ids.cancel(1));
        assert_eq!((wire_ids.get(1), wire_ids.is_empty()), (None, true));
        assert_eq!(
            wire_ids.unknown(1),
            Ok(false),
            "its cancellation is in flight"
        );
        wire_ids.cancelled_ended(1);
        wire_ids.insert(2, 12);
        wire_ids.remove(2);
        assert_eq!((wire_ids.get(2), wire_ids.is_empty()), (None, true));
        wire_ids.insert(1, 11);
        assert!(wire_ids.watches().eq([11]));
        assert!(wire_ids.cancel(1));
    }

    #[test]
    fn the_number_of_unknown_watches_is_bounded() {
        let mut wire_ids = WireIds::default();
        assert_eq!(wire_ids.unknown(-2), Ok(false), "no id of a watch");
        for wire_id in 0..100_000 {
            assert_eq!(wire_ids.unknown(wire_id), Ok(true));
        }
        assert_eq!(wire_ids.unknown(100_000), Err(TooManyUnknown));
        wire_ids.clear();
        assert_eq!(wire_ids.unknown(100_000), Ok(true));
    }
}

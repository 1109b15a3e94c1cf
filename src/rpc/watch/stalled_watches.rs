//! The watches that wait for room at their readers.

use std::collections::BTreeMap;

use super::watch_id::WatchId;

/// The watches that are paused because their readers had no room, in the order in which they paused.
#[derive(Debug, Default)]
pub(super) struct StalledWatches {
    order: BTreeMap<u64, WatchId>,
    positions: BTreeMap<WatchId, u64>,
    last: u64,
}

impl StalledWatches {
    pub(super) fn push(&mut self, id: WatchId) {
        self.remove(id);
        self.last += 1;
        self.positions.insert(id, self.last);
        self.order.insert(self.last, id);
    }

    pub(super) fn remove(&mut self, id: WatchId) {
        if let Some(position) = self.positions.remove(&id) {
            self.order.remove(&position);
        }
    }

    pub(super) fn oldest_first(&self) -> impl Iterator<Item = WatchId> {
        self.order.values().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

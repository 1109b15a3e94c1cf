//! The watches that were reported as down, are created again, and have not caught up yet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::rpc::watch::watch_id::WatchId;

/// Watches count as caught up when the server has not answered any progress request of the stream,
/// and has sent them nothing, for this time: gRPC proxies never answer, nor do releases before 3.4.31
/// and 3.5.13 for a watch that started in the past and had no events.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(5);

/// The watches of a stream that catch up.
#[derive(Debug)]
pub(super) struct CatchUp {
    watches: BTreeSet<WatchId>,
    /// The time at which one of them was last created or received events.
    active_at: Instant,
}

impl CatchUp {
    pub(super) fn new(now: Instant) -> Self {
        CatchUp {
            watches: BTreeSet::new(),
            active_at: now,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    pub(super) fn insert(&mut self, id: WatchId, now: Instant) {
        self.watches.insert(id);
        self.active_at = now;
    }

    /// Removes a watch. Returns whether it was among them.
    pub(super) fn remove(&mut self, id: WatchId) -> bool {
        self.watches.remove(&id)
    }

    /// Records that a watch received events.
    pub(super) fn received(&mut self, id: WatchId, now: Instant) {
        if self.watches.contains(&id) {
            self.active_at = now;
        }
    }

    /// Removes all watches.
    pub(super) fn take(&mut self) -> BTreeSet<WatchId> {
        std::mem::take(&mut self.watches)
    }

    /// The time at which the watches count as caught up if the server reports no progress.
    /// `last_bytes_at` is when bytes of a message last arrived.
    pub(super) fn deadline(&self, last_bytes_at: Option<Instant>) -> Option<Instant> {
        let active_at = last_bytes_at.map_or(self.active_at, |at| self.active_at.max(at));
        (!self.watches.is_empty()).then(|| active_at + CATCH_UP_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_moves_with_the_activity_of_the_watches_and_with_arriving_bytes() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut catch_up = CatchUp::new(begun);
        assert_eq!(catch_up.deadline(Some(at(9))), None);
        catch_up.insert(1, at(1));
        assert_eq!(catch_up.deadline(None), Some(at(6)));
        catch_up.received(2, at(2));
        assert_eq!(catch_up.deadline(None), Some(at(6)), "another watch");
        catch_up.received(1, at(2));
        assert_eq!(catch_up.deadline(None), Some(at(7)));
        assert_eq!(catch_up.deadline(Some(at(4))), Some(at(9)));
        assert!(catch_up.remove(1) && !catch_up.remove(1) && catch_up.is_empty());
        assert_eq!(catch_up.deadline(None), None);
    }
}

//! SetDelivery to the sets of watches, and which watches belong to each set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::event::WatchResponse;
use super::latest_feed::LatestFeed;
use super::watch_id::WatchId;
use super::watch_key::WatchKey;
use crate::error::{Error, Result};
use crate::runtime::{BoundedSender, SendOutcome};

/// Readers of latest sets are woken when the task has no more input, or after this many deliveries.
const WAKE_AFTER: usize = 256;

/// The watches of a set that have not ended. Its handle and the task share them.
pub(super) type OpenWatches = Arc<Mutex<BTreeSet<WatchId>>>;

/// The way in which a set delivers to its reader.
#[derive(Debug)]
pub(super) enum SetDelivery {
    /// Every response, in a bounded channel.
    All {
        bounded_sender: BoundedSender<(WatchKey, Result<WatchResponse>)>,
        watched: OpenWatches,
    },
    /// The newest event of each watch.
    Latest(LatestFeed),
}

#[derive(Debug)]
struct Set {
    delivery: SetDelivery,
    members: BTreeSet<WatchId>,
    /// Its reader must be woken.
    to_wake: bool,
}

/// The sets of a client, by number.
#[derive(Debug, Default)]
pub(super) struct SetDeliveries {
    sets: BTreeMap<u64, Set>,
    to_wake: Vec<u64>,
    deliveries: usize,
}

impl SetDeliveries {
    pub(super) fn add(&mut self, number: u64, delivery: SetDelivery) {
        let set = Set {
            delivery,
            members: BTreeSet::new(),
            to_wake: false,
        };
        self.sets.insert(number, set);
    }

    /// Removes a set, whose reader is gone. Returns its watches.
    pub(super) fn remove(&mut self, number: u64) -> BTreeSet<WatchId> {
        let Some(set) = self.sets.remove(&number) else {
            return BTreeSet::new();
        };
        if let SetDelivery::All { bounded_sender, .. } = set.delivery {
            // Only the channel ends: its reader has dropped the set.
            bounded_sender.end();
        }
        set.members
    }

    pub(super) fn join(&mut self, number: u64, id: WatchId) {
        if let Some(set) = self.sets.get_mut(&number) {
            set.members.insert(id);
        }
    }

    pub(super) fn leave(&mut self, number: u64, id: WatchId) {
        if let Some(set) = self.sets.get_mut(&number) {
            set.members.remove(&id);
            if let SetDelivery::All { watched, .. } = &set.delivery {
                watched.lock().remove(&id);
            }
        }
    }

    pub(super) fn offer(
        &mut self,
        number: u64,
        id: WatchId,
        response: WatchResponse,
        size: usize,
    ) -> SendOutcome {
        let Some(set) = self.sets.get_mut(&number) else {
            return SendOutcome::Disconnected;
        };
        match &mut set.delivery {
            SetDelivery::All { bounded_sender, .. } => {
                let item = |waiting| (WatchKey::of(id), Ok(response.kept(waiting)));
                bounded_sender.offer_with(size, item)
            }
            SetDelivery::Latest(feed) => {
                feed.deliver(id, response);
                self.mark_changed(number);
                SendOutcome::Sent
            }
        }
    }

    pub(super) fn has_room(&mut self, number: u64) -> bool {
        let set = self.sets.get_mut(&number);
        set.is_none_or(|set| match &mut set.delivery {
            SetDelivery::All { bounded_sender, .. } => bounded_sender.has_room(),
            SetDelivery::Latest(_) => true,
        })
    }

    /// Records whether a watch has lost its server.
    pub(super) fn set_down(&mut self, number: u64, id: WatchId, is_down: bool) {
        if let Some(set) = self.sets.get(&number)
            && let SetDelivery::Latest(feed) = &set.delivery
        {
            feed.set_down(id, is_down);
            self.mark_changed(number);
        }
    }

    /// Records that a new stream was opened.
    pub(super) fn stream_opened(&self) {
        for set in self.sets.values() {
            if let SetDelivery::Latest(feed) = &set.delivery {
                feed.stream_opened();
            }
        }
    }

    /// Delivers the last item of a watch.
    pub(super) fn finish(&mut self, number: u64, id: WatchId, error: Error) {
        self.leave(number, id);
        let Some(set) = self.sets.get_mut(&number) else {
            return;
        };
        match &mut set.delivery {
            SetDelivery::All { bounded_sender, .. } => {
                bounded_sender
                    .send_over_capacity((WatchKey::of(id), Err(error)), size_of::<Error>());
            }
            SetDelivery::Latest(feed) => {
                feed.finish(id, error);
                self.mark_changed(number);
            }
        }
    }

    fn mark_changed(&mut self, number: u64) {
        if let Some(set) = self.sets.get_mut(&number)
            && !std::mem::replace(&mut set.to_wake, true)
        {
            // One wake-up per burst and set, not one per event.
            self.to_wake.push(number);
        }
        self.deliveries += 1;
        // A long burst wakes its readers before its end.
        if self.deliveries >= WAKE_AFTER {
            self.wake();
        }
    }

    /// Wakes the readers of the latest sets that have changed, once for all changes.
    pub(super) fn wake(&mut self) {
        self.deliveries = 0;
        for number in self.to_wake.drain(..) {
            if let Some(set) = self.sets.get_mut(&number) {
                set.to_wake = false;
                if let SetDelivery::Latest(feed) = &set.delivery {
                    feed.wake();
                }
            }
        }
    }
}

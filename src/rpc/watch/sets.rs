//! The sets of watches that the task delivers to, and which watches belong to each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::event::WatchResponse;
use super::latest::Feed;
use super::set::WatchKey;
use super::state::Id;
use crate::error::{Error, Result};
use crate::runtime::{BoundedSender, Offer};

/// Readers of latest sets are woken when nothing more is at hand, or after so many deliveries.
const WAKE_AFTER: usize = 256;

/// The watches of a set that have not ended, as its handle and the task know them.
pub(super) type Watched = Arc<Mutex<BTreeSet<Id>>>;

/// How a set delivers.
#[derive(Debug)]
pub(super) enum Delivery {
    /// Every response, in a bounded channel.
    All {
        bounded_sender: BoundedSender<(WatchKey, Result<WatchResponse>)>,
        watched: Watched,
    },
    /// The newest event of each watch.
    Latest(Feed),
}

#[derive(Debug)]
struct Set {
    delivery: Delivery,
    members: BTreeSet<Id>,
    /// Its reader is to be woken.
    to_wake: bool,
}

/// The sets, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Sets {
    sets: BTreeMap<u64, Set>,
    to_wake: Vec<u64>,
    deliveries: usize,
}

impl Sets {
    pub(super) fn add(&mut self, number: u64, delivery: Delivery) {
        let set = Set {
            delivery,
            members: BTreeSet::new(),
            to_wake: false,
        };
        self.sets.insert(number, set);
    }

    /// Forgets a set, whose reader is gone. Returns its watches.
    pub(super) fn remove(&mut self, number: u64) -> BTreeSet<Id> {
        let Some(set) = self.sets.remove(&number) else {
            return BTreeSet::new();
        };
        if let Delivery::All { bounded_sender, .. } = set.delivery {
            bounded_sender.end();
        }
        set.members
    }

    pub(super) fn join(&mut self, number: u64, id: Id) {
        if let Some(set) = self.sets.get_mut(&number) {
            set.members.insert(id);
        }
    }

    pub(super) fn leave(&mut self, number: u64, id: Id) {
        if let Some(set) = self.sets.get_mut(&number) {
            set.members.remove(&id);
            if let Delivery::All { watched, .. } = &set.delivery {
                watched.lock().remove(&id);
            }
        }
    }

    pub(super) fn offer(
        &mut self,
        number: u64,
        id: Id,
        response: WatchResponse,
        size: usize,
    ) -> Offer {
        let Some(set) = self.sets.get_mut(&number) else {
            return Offer::Gone;
        };
        match &mut set.delivery {
            Delivery::All { bounded_sender, .. } => {
                bounded_sender.offer((WatchKey::of(id), Ok(response)), size)
            }
            Delivery::Latest(feed) => {
                feed.deliver(id, response);
                self.news(number);
                Offer::Taken
            }
        }
    }

    pub(super) fn has_room(&mut self, number: u64) -> bool {
        let set = self.sets.get_mut(&number);
        set.is_none_or(|set| match &mut set.delivery {
            Delivery::All { bounded_sender, .. } => bounded_sender.has_room(),
            Delivery::Latest(_) => true,
        })
    }

    /// The watch is cut off from its server, or there (again).
    pub(super) fn note(&mut self, number: u64, id: Id, is_down: bool) {
        if let Some(set) = self.sets.get(&number)
            && let Delivery::Latest(feed) = &set.delivery
        {
            feed.note(id, is_down);
            self.news(number);
        }
    }

    /// A new stream was opened.
    pub(super) fn stream_opened(&self) {
        for set in self.sets.values() {
            if let Delivery::Latest(feed) = &set.delivery {
                feed.stream_opened();
            }
        }
    }

    /// The last item of a watch.
    pub(super) fn finish(&mut self, number: u64, id: Id, error: Error) {
        self.leave(number, id);
        let Some(set) = self.sets.get_mut(&number) else {
            return;
        };
        match &mut set.delivery {
            Delivery::All { bounded_sender, .. } => {
                bounded_sender.insist((WatchKey::of(id), Err(error)), size_of::<Error>());
            }
            Delivery::Latest(feed) => {
                feed.finish(id, error);
                self.news(number);
            }
        }
    }

    fn news(&mut self, number: u64) {
        if let Some(set) = self.sets.get_mut(&number)
            && !std::mem::replace(&mut set.to_wake, true)
        {
            self.to_wake.push(number);
        }
        self.deliveries += 1;
        if self.deliveries >= WAKE_AFTER {
            self.wake();
        }
    }

    /// Wakes the readers of latest sets that have news: once for all that came together.
    pub(super) fn wake(&mut self) {
        self.deliveries = 0;
        for number in self.to_wake.drain(..) {
            if let Some(set) = self.sets.get_mut(&number) {
                set.to_wake = false;
                if let Delivery::Latest(feed) = &set.delivery {
                    feed.wake();
                }
            }
        }
    }
}

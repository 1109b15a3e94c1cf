//! The contents of a latest set: the newest item of each watch, and which watches the server has.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::rpc::watch::event::Event;
use crate::rpc::watch::watch_id::WatchId;
use crate::rpc::watch::watch_key::WatchKey;

/// One slot per watch. An item that is delivered to a full slot replaces the older one.
#[derive(Debug, Default)]
pub(super) struct LatestSlots {
    slots: HashMap<WatchId, Slot>,
    /// The watches whose slot is full, in the order in which the slots were filled.
    full: Vec<WatchId>,
    /// The watches that the server does not have, ordered by the time since which it does not.
    unwatched: BTreeSet<(Instant, WatchId)>,
    /// The number of slots with `lost` set.
    lost: usize,
    generation: u64,
    /// The last item of the set as a whole.
    last: Option<Error>,
    /// Something has changed since the reader last took the items.
    changed: bool,
}

#[derive(Debug)]
struct Slot {
    /// Boxed, because most slots are empty.
    newest: Option<Box<Result<Event>>>,
    unwatched_since: Option<Instant>,
    /// The watch waits for another stream than the one that it was last on, or than the one that was
    /// open when it was added.
    lost: bool,
    ended: bool,
}

impl LatestSlots {
    /// Adds a watch that the server does not have yet.
    pub(super) fn add(&mut self, id: WatchId, now: Instant) {
        self.unwatched.insert((now, id));
        let slot = Slot {
            newest: None,
            unwatched_since: Some(now),
            lost: false,
            ended: false,
        };
        self.slots.insert(id, slot);
    }

    /// Removes a watch and its item. Returns whether it existed.
    pub(super) fn remove(&mut self, id: WatchId) -> bool {
        self.watched(id);
        self.slots.remove(&id).is_some()
    }

    /// Puts an event into the slot of a watch. A watch that the reader has removed has no slot.
    pub(super) fn deliver(&mut self, id: WatchId, event: Event) {
        self.fill(id, Ok(event));
    }

    /// Ends a watch; `error` is its last item.
    pub(super) fn finish(&mut self, id: WatchId, error: Error) {
        self.watched(id);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.ended = true;
            self.fill(id, Err(error));
        }
    }

    fn fill(&mut self, id: WatchId, item: Result<Event>) {
        if let Some(slot) = self.slots.get_mut(&id) {
            // A slot is listed once, however many events it received.
            if slot.newest.replace(Box::new(item)).is_none() {
                self.full.push(id);
            }
            self.changed = true;
        }
    }

    /// Records that the server has the watch.
    pub(super) fn watched(&mut self, id: WatchId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        let Some(since) = slot.unwatched_since.take() else {
            return;
        };
        self.unwatched.remove(&(since, id));
        self.changed = true;
        if std::mem::take(&mut slot.lost) {
            self.lost -= 1;
            // The last lost watch is back: everything written meanwhile was delivered.
            self.generation += u64::from(self.lost == 0);
        }
    }

    /// Records that the stream of the watch was lost.
    pub(super) fn lose(&mut self, id: WatchId, now: Instant) {
        if let Some(slot) = self.slots.get_mut(&id)
            // A watch that was never on the server was not lost.
            && slot.unwatched_since.is_none()
            && !slot.ended
        {
            slot.unwatched_since = Some(now);
            slot.lost = true;
            self.unwatched.insert((now, id));
            self.lost += 1;
            self.changed = true;
        }
    }

    /// Records that a new stream was opened. The watches that the server does not have yet are
    /// created on it, and the store may have been replaced since they were added.
    pub(super) fn stream_opened(&mut self) {
        for (_, id) in &self.unwatched {
            if let Some(slot) = self.slots.get_mut(id)
                && !std::mem::replace(&mut slot.lost, true)
            {
                self.lost += 1;
            }
        }
    }

    /// Ends the set with a last item.
    pub(super) fn end(&mut self, error: Error) {
        self.last = Some(error);
        self.changed = true;
    }

    /// Takes all items, in the order in which the slots were filled.
    pub(super) fn take(&mut self) -> Vec<(WatchKey, Result<Event>)> {
        self.changed = false;
        let mut items = Vec::with_capacity(self.full.len());
        for id in std::mem::take(&mut self.full) {
            let Some(slot) = self.slots.get_mut(&id) else {
                continue;
            };
            items.extend(slot.newest.take().map(|item| (WatchKey::of(id), *item)));
            if slot.ended {
                self.slots.remove(&id);
            }
        }
        // The error of the whole set follows all items.
        items.extend(self.last.take().map(|error| (WatchKey::SET, Err(error))));
        items
    }

    /// Whether the reader must be woken.
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn unwatched_since(&self, id: WatchId) -> Option<Instant> {
        self.slots.get(&id)?.unwatched_since
    }

    pub(super) fn oldest_unwatched(&self) -> Option<Instant> {
        self.unwatched.first().map(|(since, _)| *since)
    }

    pub(super) fn unwatched_before(&self, time: Instant) -> Vec<WatchKey> {
        // Sorted by time, so this does not pass over the other watches.
        let before = self.unwatched.range(..(time, 0));
        before.map(|(_, id)| WatchKey::of(*id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::grpc::etcd_rs_proto::mvccpb;

    fn event(revision: i64) -> Event {
        let kv = mvccpb::KeyValue {
            key: "k".into(),
            mod_revision: revision,
            ..Default::default()
        };
        let event = mvccpb::Event {
            kv: Some(kv),
            ..Default::default()
        };
        Event::read(event).unwrap()
    }

    /// The key and the revision of each item; 0 is an error.
    fn taken(slots: &mut LatestSlots) -> Vec<(WatchKey, i64)> {
        let items = slots.take().into_iter();
        let revision = |item: Result<Event>| item.map_or(0, |event| event.revision().get());
        items.map(|(key, item)| (key, revision(item))).collect()
    }

    #[test]
    fn a_newer_event_takes_the_place_of_an_older_one() {
        let now = Instant::now();
        let mut slots = LatestSlots::default();
        slots.add(1, now);
        slots.add(2, now);
        for (id, revision) in [(1, 5), (2, 6), (1, 7), (1, 8)] {
            slots.deliver(id, event(revision));
        }
        assert!(slots.has_changed());
        let (a, b) = (WatchKey::of(1), WatchKey::of(2));
        assert_eq!(taken(&mut slots), [(a, 8), (b, 6)]);
        assert!(!slots.has_changed() && taken(&mut slots).is_empty());
        for revision in 9..1000 {
            slots.deliver(1, event(revision));
        }
        assert_eq!(slots.full, [1], "it takes the place of one");
        assert_eq!(taken(&mut slots), [(a, 999)]);
    }

    #[test]
    fn a_reader_is_woken_by_each_visible_change() {
        let now = Instant::now();
        let mut slots = LatestSlots::default();
        let changed = |slots: &mut LatestSlots| std::mem::take(&mut slots.changed);
        slots.add(1, now);
        assert!(!changed(&mut slots));
        slots.watched(1);
        assert!(changed(&mut slots));
        slots.watched(1);
        assert!(!changed(&mut slots), "it was watched");
        slots.lose(1, now);
        assert!(changed(&mut slots));
        slots.lose(1, now);
        assert!(!changed(&mut slots), "it was lost");
        slots.finish(1, Error::invalid("over"));
        assert!(changed(&mut slots));
        slots.lose(1, now);
        assert!(!changed(&mut slots) && slots.oldest_unwatched().is_none());
        slots.end(Error::closed());
        assert!(changed(&mut slots));
    }

    #[test]
    fn a_removed_or_ended_watch_delivers_nothing() {
        let now = Instant::now();
        let mut slots = LatestSlots::default();
        slots.add(1, now);
        slots.add(2, now);
        slots.deliver(1, event(5));
        assert!(slots.remove(1) && !slots.remove(1));
        slots.deliver(1, event(6));
        slots.finish(2, Error::invalid("over"));
        assert_eq!(taken(&mut slots), [(WatchKey::of(2), 0)]);
        assert!(slots.slots.is_empty() && slots.unwatched.is_empty());
        slots.deliver(2, event(7));
        slots.lose(2, now);
        assert!(taken(&mut slots).is_empty());
        assert_eq!(slots.oldest_unwatched(), None);
    }

    #[test]
    fn a_generation_begins_when_no_lost_watch_is_left() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut slots = LatestSlots::default();
        for id in 1..=3 {
            slots.add(id, begin);
            slots.watched(id);
        }
        assert_eq!((slots.generation(), slots.oldest_unwatched()), (0, None));
        for id in 1..=3 {
            slots.lose(id, at(1));
            slots.lose(id, at(2));
        }
        // A watch that the server never had was not lost, and no generation waits for it.
        slots.add(4, at(3));
        assert_eq!(slots.oldest_unwatched(), Some(at(1)));
        slots.watched(2);
        slots.watched(1);
        assert_eq!(slots.generation(), 0);
        assert_eq!(slots.unwatched_since(3), Some(at(1)));
        assert_eq!(slots.unwatched_before(at(2)), [WatchKey::of(3)]);
        assert_eq!(slots.unwatched_before(at(1)), []);
        slots.remove(3);
        assert_eq!(slots.generation(), 1);
        assert_eq!(slots.oldest_unwatched(), Some(at(3)));
        slots.lose(1, at(5));
        slots.finish(1, Error::invalid("over"));
        assert_eq!(slots.generation(), 2);
    }

    // Fault: R11
    #[test]
    fn a_watch_that_was_added_before_the_stream_opens_belongs_to_a_new_generation() {
        let now = Instant::now();
        let mut slots = LatestSlots::default();
        slots.add(1, now);
        for _ in 0..3 {
            slots.stream_opened();
            assert_eq!(slots.lost, 1, "each watch counts once");
        }
        // Added to a stream that is open: nothing can have happened to the store.
        slots.add(2, now);
        slots.watched(2);
        assert_eq!(slots.generation(), 0);
        slots.watched(1);
        assert_eq!(slots.generation(), 1);
        slots.stream_opened();
        assert_eq!((slots.generation(), slots.lost), (1, 0));
    }

    #[test]
    fn the_error_of_the_set_is_the_last_item() {
        let mut slots = LatestSlots::default();
        slots.add(1, Instant::now());
        slots.end(Error::closed());
        slots.deliver(1, event(5));
        let items = slots.take();
        assert_eq!(items.len(), 2);
        assert!(matches!(&items[1], (WatchKey::SET, Err(e)) if e.kind() == ErrorKind::Closed));
        assert!(slots.take().is_empty());
    }
}

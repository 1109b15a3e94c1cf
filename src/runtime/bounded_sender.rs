//! The end of a flow: from a task on the runtime into a crossbeam channel that a reader owns.
//!
//! A reader may be slow, or never read. The task must not wait for it, and memory must stay
//! bounded: an bounded sender holds a number of items and a number of bytes, and says when it is full. It
//! learns what the reader took by the length of the channel, so readers need no wrapper.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use crate::observe::Queue;

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It is in the channel.
    Taken,
    /// There is no room for it.
    Full,
    /// Nobody reads any more.
    Gone,
}

/// How much an bounded sender holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

/// The sending end of a bounded flow.
#[derive(Debug)]
pub(crate) struct BoundedSender<T> {
    /// Behind a lock for those who look how much waits; the task is alone with it otherwise.
    flow: Arc<Mutex<Flow<T>>>,
    room: Room,
    farewell: fn() -> Option<T>,
}

#[derive(Debug)]
struct Flow<T> {
    // Unbounded for crossbeam, which would allocate a bounded channel's slots at once; the bound is
    // ours.
    sender: Option<Sender<T>>,
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl<T> BoundedSender<T> {
    /// An bounded sender and what its reader reads.
    ///
    /// When the bounded sender is dropped without [`end`](BoundedSender::end) or [`finish`](BoundedSender::finish) (the
    /// runtime is shutting down), `farewell` is the last item: a bare disconnect only ever means
    /// that the reader cancelled.
    pub(crate) fn new(room: Room, farewell: fn() -> Option<T>) -> (Self, Receiver<T>) {
        let (sender, receiver) = unbounded();
        let flow = Flow {
            sender: Some(sender),
            sizes: VecDeque::new(),
            bytes: 0,
        };
        let bounded_sender = BoundedSender {
            flow: Arc::new(Mutex::new(flow)),
            room,
            farewell,
        };
        (bounded_sender, receiver)
    }

    /// Offers one item of about `size` bytes. An item larger than all the room is taken when the
    /// channel is empty; else it could never pass.
    pub(crate) fn offer(&mut self, item: T, size: usize) -> Offer {
        let mut flow = self.flow.lock();
        if flow.sender.is_none() {
            return Offer::Gone;
        }
        if !flow.fits(self.room, size) {
            return Offer::Full;
        }
        flow.push(item, size)
    }

    /// Whether an item of this size would be taken.
    pub(crate) fn fits(&mut self, size: usize) -> bool {
        self.flow.lock().fits(self.room, size)
    }

    /// Delivers an item for which there must be room. The caller sees to it that they are few.
    pub(crate) fn insist(&mut self, item: T, size: usize) {
        let mut flow = self.flow.lock();
        flow.settle();
        // A reader that is gone does not miss it.
        let _ = flow.push(item, size);
    }

    /// How many items the reader has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        let mut flow = self.flow.lock();
        flow.settle();
        flow.sizes.len()
    }

    /// Whether at least half of it is free: enough to be worth resuming a flow.
    pub(crate) fn has_room(&mut self) -> bool {
        let mut flow = self.flow.lock();
        flow.settle();
        flow.sizes.len() <= self.room.items / 2 && flow.bytes <= self.room.bytes / 2
    }

    /// Ends the flow with one last item, for which there is always room.
    pub(crate) fn finish(self, last: T) {
        if let Some(sender) = self.take() {
            // A reader that is gone does not miss it.
            let _ = sender.send(last);
        }
    }

    /// Ends the flow because its reader asked for it: nothing more comes.
    pub(crate) fn end(self) {
        drop(self.take());
    }

    fn take(&self) -> Option<Sender<T>> {
        self.flow.lock().sender.take()
    }
}

impl<T: Send + 'static> BoundedSender<T> {
    /// To look how much waits in it, for as long as it exists.
    pub(crate) fn queue(&self) -> Weak<dyn Queue> {
        let flow: Weak<Mutex<Flow<T>>> = Arc::downgrade(&self.flow);
        flow
    }
}

impl<T> Flow<T> {
    fn fits(&mut self, room: Room, size: usize) -> bool {
        self.settle();
        let few = self.sizes.len() < room.items;
        let small = self.bytes.saturating_add(size) <= room.bytes;
        few && small || self.sizes.is_empty()
    }

    fn push(&mut self, item: T, size: usize) -> Offer {
        let sent = self.sender.as_ref().is_some_and(|s| s.send(item).is_ok());
        if !sent {
            return Offer::Gone;
        }
        self.sizes.push_back(size);
        self.bytes = self.bytes.saturating_add(size);
        Offer::Taken
    }

    /// Forgets what the reader has taken since the last look.
    fn settle(&mut self) {
        let waiting = self.sender.as_ref().map_or(0, Sender::len);
        while self.sizes.len() > waiting {
            let size = self.sizes.pop_front().unwrap_or(0);
            self.bytes = self.bytes.saturating_sub(size);
        }
    }
}

impl<T: Send> Queue for Mutex<Flow<T>> {
    fn waiting(&self) -> (usize, usize) {
        let mut flow = self.lock();
        flow.settle();
        (flow.sizes.len(), flow.bytes)
    }
}

impl<T> Drop for BoundedSender<T> {
    fn drop(&mut self) {
        if let (Some(sender), Some(last)) = (self.take(), (self.farewell)()) {
            let _ = sender.send(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room {
        items: 4,
        bytes: 100,
    };

    #[test]
    fn it_is_bounded_by_items_and_by_bytes_and_room_comes_back() {
        let (mut bounded_sender, receiver) = BoundedSender::new(ROOM, || None);
        for n in 0..4 {
            assert_eq!(bounded_sender.offer(n, 1), Offer::Taken);
        }
        assert_eq!(bounded_sender.offer(4, 1), Offer::Full);
        assert!(!bounded_sender.has_room());
        assert_eq!(receiver.try_iter().take(2).count(), 2);
        assert!(bounded_sender.has_room());
        assert_eq!(bounded_sender.offer(4, 99), Offer::Full);
        assert_eq!(bounded_sender.offer(4, 98), Offer::Taken);
    }

    #[test]
    fn an_item_larger_than_the_room_passes_alone() {
        let (mut bounded_sender, receiver) = BoundedSender::new(ROOM, || None);
        assert_eq!(bounded_sender.offer(1, 1000), Offer::Taken);
        assert_eq!(bounded_sender.offer(2, 1000), Offer::Full);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(bounded_sender.offer(2, 1000), Offer::Taken);
    }

    #[test]
    fn who_looks_sees_what_waits_now_and_nothing_of_what_ended() {
        let (mut bounded_sender, receiver) = BoundedSender::new(ROOM, || None);
        let queue = bounded_sender.queue();
        let waiting = || queue.upgrade().map(|queue| queue.waiting());
        for n in 0..3 {
            bounded_sender.offer(n, 10);
        }
        assert_eq!(waiting(), Some((3, 30)));
        receiver.recv().unwrap();
        assert_eq!(waiting(), Some((2, 20)));
        bounded_sender.finish(9);
        assert_eq!(waiting(), None);
    }

    #[test]
    fn the_last_item_always_has_room() {
        let (mut bounded_sender, receiver) = BoundedSender::new(ROOM, || None);
        while bounded_sender.offer(0, 1) == Offer::Taken {}
        bounded_sender.finish(9);
        assert_eq!(receiver.iter().last(), Some(9));
    }

    #[test]
    fn a_bare_disconnect_means_that_the_reader_ended_it() {
        let (bounded_sender, receiver) = BoundedSender::new(ROOM, || Some(7));
        bounded_sender.end();
        assert_eq!(receiver.iter().count(), 0);
        let (bounded_sender, receiver) = BoundedSender::new(ROOM, || Some(7));
        drop(bounded_sender);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_reader_that_left_is_noticed() {
        let (mut bounded_sender, receiver) = BoundedSender::new(ROOM, || None);
        drop(receiver);
        assert_eq!(bounded_sender.offer(1, 1), Offer::Gone);
    }
}

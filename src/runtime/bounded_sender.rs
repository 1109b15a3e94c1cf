//! A bounded queue from a task on the runtime to a crossbeam channel that a reader owns.
//!
//! A reader may be slow, or may never read. The task must not wait for it, and memory must stay
//! bounded: the sender counts the items and bytes that the reader has not taken, and reports when
//! it is full. It derives what the reader took from the length of the channel, so the reader owns a
//! plain receiver.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use crate::observe::Queue;

/// The result of an offered item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    /// The item is in the channel.
    Sent,
    /// The queue is full; the item was not sent.
    Full,
    /// The reader dropped its receiver, or the queue has ended.
    Disconnected,
}

/// The capacity of a bounded sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

/// The sending end of a bounded queue.
#[derive(Debug)]
pub(crate) struct BoundedSender<T> {
    /// Locked because metrics read the queue length from other threads; only one task sends.
    flow: Arc<Mutex<Flow<T>>>,
    room: Capacity,
    last_item: fn() -> Option<T>,
}

#[derive(Debug)]
struct Flow<T> {
    // Unbounded, because crossbeam allocates all slots of a bounded channel at once. The bound is
    // enforced here.
    sender: Option<Sender<T>>,
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl<T> BoundedSender<T> {
    /// Creates a bounded sender and the receiver of its reader.
    ///
    /// When the sender is dropped without [`end`](BoundedSender::end) or
    /// [`finish`](BoundedSender::finish), because the runtime shuts down, `last_item` is sent last.
    /// A disconnect without a last item therefore always means that the reader cancelled.
    pub(crate) fn new(room: Capacity, last_item: fn() -> Option<T>) -> (Self, Receiver<T>) {
        let (sender, receiver) = unbounded();
        let flow = Flow {
            sender: Some(sender),
            sizes: VecDeque::new(),
            bytes: 0,
        };
        let bounded_sender = BoundedSender {
            flow: Arc::new(Mutex::new(flow)),
            room,
            last_item,
        };
        (bounded_sender, receiver)
    }

    /// Offers one item of about `size` bytes. An item larger than the capacity is accepted when the
    /// channel is empty; otherwise it could never be sent.
    pub(crate) fn offer(&mut self, item: T, size: usize) -> SendOutcome {
        let mut flow = self.flow.lock();
        if flow.sender.is_none() {
            return SendOutcome::Disconnected;
        }
        if !flow.fits(self.room, size) {
            return SendOutcome::Full;
        }
        flow.push(item, size)
    }

    /// Whether an item of this size would be accepted.
    pub(crate) fn fits(&mut self, size: usize) -> bool {
        self.flow.lock().fits(self.room, size)
    }

    /// Sends an item regardless of the capacity. The caller ensures that such items are few.
    pub(crate) fn send_over_capacity(&mut self, item: T, size: usize) {
        let mut flow = self.flow.lock();
        flow.settle();
        // A dropped receiver does not need the item.
        let _ = flow.push(item, size);
    }

    /// The number of items that the reader has not taken.
    pub(crate) fn waiting(&self) -> usize {
        let mut flow = self.flow.lock();
        flow.settle();
        flow.sizes.len()
    }

    /// Whether at least half of the capacity is free, so that it is worth resuming the source.
    pub(crate) fn has_room(&mut self) -> bool {
        let mut flow = self.flow.lock();
        flow.settle();
        flow.sizes.len() <= self.room.items / 2 && flow.bytes <= self.room.bytes / 2
    }

    /// Ends the queue with one last item, regardless of the capacity.
    pub(crate) fn finish(self, last: T) {
        if let Some(sender) = self.take() {
            // A dropped receiver does not need the item.
            let _ = sender.send(last);
        }
    }

    /// Ends the queue on the reader's request: nothing follows.
    pub(crate) fn end(self) {
        drop(self.take());
    }

    fn take(&self) -> Option<Sender<T>> {
        self.flow.lock().sender.take()
    }
}

impl<T: Send + 'static> BoundedSender<T> {
    /// A weak reference that reports the queue length while the queue exists.
    pub(crate) fn queue(&self) -> Weak<dyn Queue> {
        let flow: Weak<Mutex<Flow<T>>> = Arc::downgrade(&self.flow);
        flow
    }
}

impl<T> Flow<T> {
    fn fits(&mut self, room: Capacity, size: usize) -> bool {
        self.settle();
        let few = self.sizes.len() < room.items;
        let small = self.bytes.saturating_add(size) <= room.bytes;
        few && small || self.sizes.is_empty()
    }

    fn push(&mut self, item: T, size: usize) -> SendOutcome {
        let sent = self.sender.as_ref().is_some_and(|s| s.send(item).is_ok());
        if !sent {
            return SendOutcome::Disconnected;
        }
        self.sizes.push_back(size);
        self.bytes = self.bytes.saturating_add(size);
        SendOutcome::Sent
    }

    /// Removes the items that the reader has taken from the counts.
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
        if let (Some(sender), Some(last)) = (self.take(), (self.last_item)()) {
            let _ = sender.send(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Capacity = Capacity {
        items: 4,
        bytes: 100,
    };

    #[test]
    fn it_is_bounded_by_items_and_by_bytes_and_room_comes_back() {
        let (mut bounded_sender, receiver) = BoundedSender::new(ROOM, || None);
        for n in 0..4 {
            assert_eq!(bounded_sender.offer(n, 1), SendOutcome::Sent);
        }
        assert_eq!(bounded_sender.offer(4, 1), SendOutcome::Full);
        assert!(!bounded_sender.has_room());
        assert_eq!(receiver.try_iter().take(2).count(), 2);
        assert!(bounded_sender.has_room());
        assert_eq!(bounded_sender.offer(4, 99), SendOutcome::Full);
        assert_eq!(bounded_sender.offer(4, 98), SendOutcome::Sent);
    }

    #[test]
    fn an_item_larger_than_the_room_passes_alone() {
        let (mut bounded_sender, receiver) = BoundedSender::new(ROOM, || None);
        assert_eq!(bounded_sender.offer(1, 1000), SendOutcome::Sent);
        assert_eq!(bounded_sender.offer(2, 1000), SendOutcome::Full);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(bounded_sender.offer(2, 1000), SendOutcome::Sent);
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
        while bounded_sender.offer(0, 1) == SendOutcome::Sent {}
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
        assert_eq!(bounded_sender.offer(1, 1), SendOutcome::Disconnected);
    }
}

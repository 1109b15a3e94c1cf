//! A bounded queue from a task to a reader, which may take the items from a crossbeam channel.
//!
//! A reader may be slow, or may never read. The sender must not wait for it, and memory must stay
//! bounded: the queue counts the items and bytes that the reader has not taken, and reports when it
//! is full. The channel is created when the reader first requests it, because an unbounded crossbeam
//! channel allocates 31 places with its first item, and most queues have no reader of a channel: a
//! part of the worker or a task takes their items, or they are never read.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::Waker;

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use parking_lot::Mutex;

use crate::error::Error;
use crate::observe::ReportedQueue;
use crate::util::sync::OnceLock;

/// The result of an offered item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    /// The item is in the queue.
    Sent,
    /// The queue is full; the item was not sent.
    Full,
    /// The reader dropped its end, or the queue has ended.
    Disconnected,
}

/// The capacity of a bounded queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

/// The sending end of a bounded queue.
#[derive(Debug)]
pub(crate) struct BoundedSender<T> {
    flow: Arc<Mutex<Flow<T>>>,
    room: Capacity,
    last_item: fn(Error) -> T,
}

/// The reading end of a bounded queue.
#[derive(Debug)]
pub(crate) struct BoundedReceiver<T> {
    flow: Arc<Mutex<Flow<T>>>,
    channel: OnceLock<Receiver<T>>,
}

#[derive(Debug)]
struct Flow<T> {
    items: Items<T>,
    /// The sizes of the items that the reader has not taken.
    sizes: VecDeque<usize>,
    bytes: usize,
    open: bool,
    /// The error of the last item.
    ended: Option<Error>,
    /// Woken by the next item or the end.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Items<T> {
    /// The reader has not requested a channel.
    Buffer(VecDeque<T>),
    /// Unbounded, because crossbeam allocates all places of a bounded channel at once.
    Channel(Sender<T>),
    /// The channel without its sender, or a queue without its reader.
    Closed,
}

/// Creates a bounded queue.
///
/// When the sender is dropped without [`end`](BoundedSender::end) or
/// [`finish`](BoundedSender::finish), because the runtime shuts down, the queue finishes with that
/// error. A queue that ends without a last item was therefore always cancelled by its reader.
pub(crate) fn bounded_queue<T>(
    room: Capacity,
    last_item: fn(Error) -> T,
) -> (BoundedSender<T>, BoundedReceiver<T>) {
    let flow = Arc::new(Mutex::new(Flow {
        items: Items::Buffer(VecDeque::new()),
        sizes: VecDeque::new(),
        bytes: 0,
        open: true,
        ended: None,
        waker: None,
    }));
    let sender = BoundedSender {
        flow: Arc::clone(&flow),
        room,
        last_item,
    };
    let receiver = BoundedReceiver {
        flow,
        channel: OnceLock::new(),
    };
    (sender, receiver)
}

impl<T> BoundedSender<T> {
    /// Offers one item of about `size` bytes. An item larger than the capacity is accepted when the
    /// queue is empty; otherwise it could never be sent.
    pub(crate) fn offer(&mut self, item: T, size: usize) -> SendOutcome {
        self.offer_with(size, |_| item)
    }

    /// As [`offer`](Self::offer). If there is room, `item` makes the item; it is called with the number of items that
    /// wait, while the queue is locked.
    pub(crate) fn offer_with(&mut self, size: usize, item: impl FnOnce(usize) -> T) -> SendOutcome {
        let mut flow = self.flow.lock();
        if !flow.open {
            return SendOutcome::Disconnected;
        }
        if !flow.fits(self.room, size) {
            return SendOutcome::Full;
        }
        let item = item(flow.sizes.len());
        let outcome = flow.push(item, size);
        let waker = flow.waker.take();
        drop(flow);
        wake(waker);
        outcome
    }

    /// Whether an item of this size would be accepted.
    pub(crate) fn fits(&mut self, size: usize) -> bool {
        self.flow.lock().fits(self.room, size)
    }

    /// Sends an item regardless of the capacity. The caller ensures that such items are few.
    pub(crate) fn send_over_capacity(&mut self, item: T, size: usize) {
        let mut flow = self.flow.lock();
        flow.settle();
        // A dropped reader does not need the item.
        let _ = flow.push(item, size);
        let waker = flow.waker.take();
        drop(flow);
        wake(waker);
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

    /// Ends the queue with an error as its last item, regardless of the capacity.
    pub(crate) fn finish(self, error: Error) {
        self.close(Some(error));
    }

    /// Ends the queue on the reader's request: nothing follows.
    pub(crate) fn end(self) {
        self.close(None);
    }

    fn close(&self, error: Option<Error>) {
        let mut flow = self.flow.lock();
        if !std::mem::replace(&mut flow.open, false) {
            return;
        }
        if let Some(error) = error {
            flow.ended = Some(error.clone());
            // A dropped reader does not need the item.
            let _ = flow.push((self.last_item)(error), 0);
        }
        // A buffer stays until it is read; a channel ends when its sender is dropped.
        if let Items::Channel(_) = flow.items {
            flow.items = Items::Closed;
        }
        let waker = flow.waker.take();
        drop(flow);
        wake(waker);
    }
}

impl<T: Send + 'static> BoundedSender<T> {
    /// A weak reference that reports the queue length while the queue exists.
    pub(crate) fn queue(&self) -> Weak<dyn ReportedQueue> {
        let flow: Weak<Mutex<Flow<T>>> = Arc::downgrade(&self.flow);
        flow
    }
}

impl<T> Drop for BoundedSender<T> {
    fn drop(&mut self) {
        self.close(Some(Error::abandoned()));
    }
}

impl<T> BoundedReceiver<T> {
    /// The channel of the items, for `select!`. The first call creates it; from then on all items go
    /// through it.
    pub(crate) fn receiver(&self) -> &Receiver<T> {
        self.channel.get_or_init(|| {
            let (sender, receiver) = unbounded();
            let mut flow = self.flow.lock();
            let items = match flow.open {
                true => Items::Channel(sender.clone()),
                false => Items::Closed,
            };
            if let Items::Buffer(waiting) = std::mem::replace(&mut flow.items, items) {
                for item in waiting {
                    // It cannot fail: the receiver exists.
                    let _ = sender.send(item);
                }
            }
            receiver
        })
    }

    /// Takes the next item. It does not block.
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        if let Some(channel) = self.channel.get() {
            return channel.try_recv();
        }
        let mut flow = self.flow.lock();
        let Items::Buffer(items) = &mut flow.items else {
            drop(flow);
            // Another thread has just created the channel.
            return self.receiver().try_recv();
        };
        let item = items.pop_front();
        match item {
            Some(item) => {
                let size = flow.sizes.pop_front().unwrap_or(0);
                flow.bytes = flow.bytes.saturating_sub(size);
                Ok(item)
            }
            None if flow.open => Err(TryRecvError::Empty),
            None => Err(TryRecvError::Disconnected),
        }
    }

    /// The number of items that were not taken.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let mut flow = self.flow.lock();
        flow.settle();
        flow.sizes.len()
    }

    /// Wakes the waker once: now, if there is an item or the queue has ended, or else when that happens.
    pub(crate) fn wake_when_ready(&self, waker: &Waker) {
        let mut flow = self.flow.lock();
        flow.settle();
        if flow.open && flow.sizes.is_empty() {
            if !flow.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
                flow.waker = Some(waker.clone());
            }
        } else {
            drop(flow);
            waker.wake_by_ref();
        }
    }

    /// The error of the last item; `None` before it.
    pub(crate) fn ended(&self) -> Option<Error> {
        self.flow.lock().ended.clone()
    }
}

impl<T> Drop for BoundedReceiver<T> {
    fn drop(&mut self) {
        let mut flow = self.flow.lock();
        flow.waker = None;
        // The reader may have cloned a channel: it stays until the last clone is dropped.
        if let Items::Buffer(_) = flow.items {
            flow.open = false;
            let items = std::mem::replace(&mut flow.items, Items::Closed);
            drop(flow);
            // Items are dropped without the lock: a drop may run code that takes it.
            drop(items);
        }
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
        let sent = match &mut self.items {
            Items::Buffer(items) => {
                items.push_back(item);
                true
            }
            Items::Channel(sender) => sender.send(item).is_ok(),
            Items::Closed => false,
        };
        if !sent {
            return SendOutcome::Disconnected;
        }
        self.sizes.push_back(size);
        self.bytes = self.bytes.saturating_add(size);
        SendOutcome::Sent
    }

    /// Removes the items that the reader has taken from the counts.
    fn settle(&mut self) {
        let waiting = match &self.items {
            Items::Buffer(items) => items.len(),
            Items::Channel(sender) => sender.len(),
            Items::Closed => 0,
        };
        while self.sizes.len() > waiting {
            let size = self.sizes.pop_front().unwrap_or(0);
            self.bytes = self.bytes.saturating_sub(size);
        }
    }
}

impl<T: Send> ReportedQueue for Mutex<Flow<T>> {
    fn waiting(&self) -> Option<(usize, usize)> {
        let mut flow = self.lock();
        flow.settle();
        flow.open.then_some((flow.sizes.len(), flow.bytes))
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;

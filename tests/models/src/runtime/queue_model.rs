//! A bounded queue delivers every item once and in order, wakes its reader, and ends with its reader.

use std::sync::Arc;
use std::task::Poll;

use stand_ins::{TryRecvError, block_on, thread, unbounded};

use super::bounded_queue::{BoundedReceiver, BoundedSender, Capacity, SendOutcome, bounded_queue};
use crate::error::Result;
use crate::harness::Model;

pub(super) const MODELS: &[Model] = &[
    Model::interrupted("queue: items and the end wake the reader", 3, items_wake),
    Model::every_order("queue: the sender is dropped", sender_dropped),
    Model::interrupted(
        "queue: the channel is requested meanwhile",
        3,
        channel_requested,
    ),
    Model::every_order("queue: the reader is dropped", reader_dropped),
];

type Item = Result<Arc<u8>>;

const ROOM: Capacity = Capacity {
    items: 2,
    bytes: 100,
};

fn queue() -> (BoundedSender<Item>, BoundedReceiver<Item>) {
    bounded_queue(ROOM, Err)
}

/// Takes all items with a waker, as a part of the worker does. The error at the end is 0.
fn read_all(receiver: &BoundedReceiver<Item>) -> Vec<u8> {
    read_each(receiver, |_| {})
}

fn read_each(receiver: &BoundedReceiver<Item>, each: impl Fn(u8)) -> Vec<u8> {
    let mut items = Vec::new();
    block_on(std::future::poll_fn(|cx| {
        loop {
            match receiver.try_recv() {
                Ok(item) => {
                    items.push(item.map_or(0, |item| *item));
                    items.last().copied().into_iter().for_each(&each);
                }
                Err(TryRecvError::Disconnected) => return Poll::Ready(()),
                Err(TryRecvError::Empty) => break,
            }
        }
        receiver.wake_when_ready(cx.waker());
        Poll::Pending
    }));
    items
}

fn offer(sender: &mut BoundedSender<Item>, item: u8) -> SendOutcome {
    sender.offer(Ok(Arc::new(item)), 1)
}

/// Each item wakes the reader by itself, also when the sender waits for the reader before it goes on.
fn items_wake() {
    let (mut sender, receiver) = queue();
    let (read, was_read) = unbounded();
    let writer = thread::spawn(move || {
        assert_eq!(offer(&mut sender, 1), SendOutcome::Sent);
        assert_eq!(offer(&mut sender, 2), SendOutcome::Sent);
        assert_eq!([was_read.recv(), was_read.recv()], [Ok(1), Ok(2)]);
        sender.end();
    });
    assert_eq!(
        read_each(&receiver, |item| read.send(item).unwrap()),
        [1, 2]
    );
    assert!(receiver.ended().is_none());
    writer.join().unwrap();
}

fn sender_dropped() {
    let (mut sender, receiver) = queue();
    let writer = thread::spawn(move || {
        offer(&mut sender, 1);
    });
    assert_eq!(read_all(&receiver), [1, 0], "the last item is the reason");
    writer.join().unwrap();
}

fn channel_requested() {
    let (mut sender, receiver) = queue();
    let receiver = Arc::new(receiver);
    let other = Arc::clone(&receiver);
    let writer = thread::spawn(move || {
        offer(&mut sender, 1);
        offer(&mut sender, 2);
        sender.end();
    });
    // It only makes the channel; this thread reads on.
    let requesting = thread::spawn(move || {
        other.receiver();
    });
    assert_eq!(read_all(&receiver), [1, 2]);
    writer.join().unwrap();
    requesting.join().unwrap();
}

/// What is in the queue is dropped with the reader, and later offers are refused.
fn reader_dropped() {
    let (mut sender, receiver) = queue();
    let item = Arc::new(1);
    let sent = Arc::clone(&item);
    let reader = thread::spawn(move || drop(receiver));
    let first = sender.offer(Ok(sent), 1);
    reader.join().unwrap();
    assert!(matches!(
        first,
        SendOutcome::Sent | SendOutcome::Disconnected
    ));
    assert_eq!(offer(&mut sender, 2), SendOutcome::Disconnected);
    assert_eq!(Arc::strong_count(&item), 1, "the item is gone");
    assert!(sender.waiting() == 0);
}

use super::*;

const ROOM: Capacity = Capacity {
    items: 4,
    bytes: 100,
};

type Item = Result<usize, Error>;

fn queue() -> (BoundedSender<Item>, BoundedReceiver<Item>) {
    bounded_queue(ROOM, Err)
}

/// The items that were taken; an error is `None`.
fn taken(receiver: &BoundedReceiver<Item>) -> Vec<Option<usize>> {
    std::iter::from_fn(|| receiver.try_recv().ok())
        .map(Result::ok)
        .collect()
}

/// Runs a test with a reader of the buffer, and with a reader of the channel.
fn with_both_readers(test: impl Fn(BoundedSender<Item>, BoundedReceiver<Item>)) {
    let (sender, receiver) = queue();
    test(sender, receiver);
    let (sender, receiver) = queue();
    receiver.receiver();
    test(sender, receiver);
}

#[test]
fn items_and_bytes_are_bounded_until_the_reader_takes_them() {
    with_both_readers(|mut sender, receiver| {
        for n in 0..4 {
            assert_eq!(sender.offer(Ok(n), 1), SendOutcome::Sent);
        }
        assert_eq!(sender.offer(Ok(4), 1), SendOutcome::Full);
        assert!(!sender.has_room());
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_ok());
        assert!(sender.has_room());
        assert_eq!(sender.offer(Ok(4), 99), SendOutcome::Full);
        assert_eq!(sender.offer(Ok(4), 98), SendOutcome::Sent);
        assert_eq!(taken(&receiver), [Some(2), Some(3), Some(4)]);
    });
}

#[test]
fn an_item_larger_than_the_room_is_accepted_by_an_empty_queue() {
    with_both_readers(|mut sender, receiver| {
        assert_eq!(sender.offer(Ok(1), 1000), SendOutcome::Sent);
        assert_eq!(sender.offer(Ok(2), 1000), SendOutcome::Full);
        assert_eq!(taken(&receiver), [Some(1)]);
        assert_eq!(sender.offer(Ok(2), 1000), SendOutcome::Sent);
    });
}

#[test]
fn the_length_is_reported_until_the_queue_ends() {
    with_both_readers(|mut sender, receiver| {
        let queue = sender.queue();
        let waiting = || queue.upgrade().and_then(|queue| queue.waiting());
        for n in 0..3 {
            sender.offer(Ok(n), 10);
        }
        assert_eq!(waiting(), Some((3, 30)));
        receiver.try_recv().unwrap().unwrap();
        assert_eq!(waiting(), Some((2, 20)));
        sender.finish(Error::closed());
        assert_eq!(waiting(), None);
    });
}

#[test]
fn the_last_item_always_has_room_and_is_the_reason_of_the_end() {
    with_both_readers(|mut sender, receiver| {
        while sender.offer(Ok(0), 1) == SendOutcome::Sent {}
        assert!(receiver.ended().is_none());
        sender.finish(Error::invalid("over"));
        assert_eq!(taken(&receiver).last(), Some(&None));
        assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Disconnected);
        let ended = receiver.ended().unwrap();
        assert_eq!(ended.kind(), crate::ErrorKind::InvalidArgument);
    });
}

#[test]
fn a_queue_without_a_last_item_was_ended_on_request() {
    with_both_readers(|sender, receiver| {
        sender.end();
        assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Disconnected);
        assert!(receiver.ended().is_none());
    });
    with_both_readers(|sender, receiver| {
        drop(sender);
        assert_eq!(taken(&receiver), [None]);
    });
}

#[test]
fn offer_fails_after_the_reader_was_dropped() {
    with_both_readers(|mut sender, receiver| {
        sender.offer(Ok(0), 1);
        drop(receiver);
        assert_eq!(sender.offer(Ok(1), 1), SendOutcome::Disconnected);
    });
}

#[test]
fn the_channel_gets_the_items_of_the_buffer_and_all_later_ones() {
    let (mut sender, receiver) = queue();
    sender.offer(Ok(1), 50);
    sender.offer(Ok(2), 50);
    let channel = receiver.receiver().clone();
    assert_eq!(sender.offer(Ok(3), 1), SendOutcome::Full);
    assert_eq!(channel.recv().unwrap().unwrap(), 1);
    sender.offer(Ok(3), 1);
    sender.finish(Error::closed());
    drop(receiver);
    let items: Vec<_> = channel.iter().map(Result::ok).collect();
    assert_eq!(items, [Some(2), Some(3), None]);

    // The queue ended before the channel was requested.
    let (mut sender, receiver) = queue();
    sender.offer(Ok(1), 1);
    sender.finish(Error::closed());
    assert_eq!(receiver.receiver().iter().count(), 2);
}

#[test]
fn a_waker_is_woken_by_the_next_item_and_by_the_end() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    with_both_readers(|mut sender, receiver| {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let woken = || count.0.load(SeqCst);
        receiver.wake_when_ready(&waker);
        assert_eq!(woken(), 0);
        sender.offer(Ok(1), 1);
        assert_eq!(woken(), 1);
        sender.offer(Ok(2), 1);
        assert_eq!(woken(), 1, "one wake-up for each registration");
        receiver.try_recv().unwrap().unwrap();
        receiver.wake_when_ready(&waker);
        assert_eq!(woken(), 2, "an item is waiting");
        receiver.try_recv().unwrap().unwrap();
        receiver.wake_when_ready(&waker);
        assert_eq!(woken(), 2);
        sender.send_over_capacity(Ok(3), 1);
        assert_eq!(woken(), 3);
        receiver.try_recv().unwrap().unwrap();
        receiver.wake_when_ready(&waker);
        sender.end();
        assert_eq!(woken(), 4);
    });
}

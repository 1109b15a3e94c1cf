//! The destination of a watch's items.

use super::event::WatchResponse;
use super::set_delivery::SetDeliveries;
use super::task_watcher_item::{CAPACITY, TaskWatcherItem};
use super::watch_id::WatchId;
use crate::error::{Error, Result};
use crate::runtime::{BoundedSender, SendOutcome};

/// The destination of a watch's items.
#[derive(Debug)]
pub(super) enum Sink {
    /// A channel of its own.
    Reader(BoundedSender<Result<WatchResponse>>),
    /// A task of the runtime.
    Task {
        items: BoundedSender<TaskWatcherItem>,
        /// The last of `Down` and `Up` that was sent was `Down`. Neither is sent to a full queue.
        down: bool,
    },
    /// The set of this number.
    Set(u64),
}

impl Sink {
    pub(super) fn offer(
        &mut self,
        sets: &mut SetDeliveries,
        id: WatchId,
        response: WatchResponse,
        size: usize,
    ) -> SendOutcome {
        match self {
            Sink::Reader(bounded_sender) => {
                bounded_sender.offer_with(size, |waiting| Ok(response.kept(waiting)))
            }
            Sink::Task { items, .. } => items.offer(TaskWatcherItem::Response(Ok(response)), size),
            Sink::Set(set) => sets.offer(*set, id, response, size),
        }
    }

    pub(super) fn has_room(&mut self, sets: &mut SetDeliveries) -> bool {
        match self {
            Sink::Reader(bounded_sender) => bounded_sender.has_room(),
            Sink::Task { items, .. } => items.has_room(),
            Sink::Set(set) => sets.has_room(*set),
        }
    }

    /// Reports whether the watch has lost its server.
    pub(super) fn set_down(&mut self, sets: &mut SetDeliveries, id: WatchId, is_down: bool) {
        let (items, down) = match self {
            Sink::Reader(_) => return,
            Sink::Task { items, down } => (items, down),
            Sink::Set(set) => return sets.set_down(*set, id, is_down),
        };
        // A reader that is so far behind needs no `Down` or `Up` yet: the responses in its queue are
        // older.
        if *down != is_down && items.waiting() < CAPACITY {
            *down = is_down;
            let item = match is_down {
                true => TaskWatcherItem::Down,
                false => TaskWatcherItem::Up,
            };
            items.send_over_capacity(item, 0);
        }
    }

    /// Reports that the server has created the watch: the first `Up`.
    pub(super) fn created(&mut self, sets: &mut SetDeliveries, id: WatchId) {
        match self {
            Sink::Reader(_) => {}
            Sink::Task { items, .. } => items.send_over_capacity(TaskWatcherItem::Up, 0),
            Sink::Set(set) => sets.set_down(*set, id, false),
        }
    }

    /// Delivers the last item.
    pub(super) fn finish(self, sets: &mut SetDeliveries, id: WatchId, error: Error) {
        match self {
            Sink::Reader(bounded_sender) => bounded_sender.finish(error),
            Sink::Task { items, .. } => items.finish(error),
            Sink::Set(set) => sets.finish(set, id, error),
        }
    }

    /// Ends the watch without a last item: its reader has cancelled it.
    pub(super) fn end(self, sets: &mut SetDeliveries, id: WatchId) {
        match self {
            Sink::Reader(bounded_sender) => bounded_sender.end(),
            Sink::Task { items, .. } => items.end(),
            Sink::Set(set) => sets.leave(set, id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::rpc::watch::task_watcher_item::{RESERVED, ROOM};
    use crate::runtime::{BoundedReceiver, bounded_queue};

    fn task() -> (Sink, BoundedReceiver<TaskWatcherItem>) {
        let (items, receiver) = bounded_queue(ROOM, |error| TaskWatcherItem::Response(Err(error)));
        (Sink::Task { items, down: false }, receiver)
    }

    #[test]
    fn a_task_that_does_not_read_still_gets_its_last_item() {
        let (mut sink, receiver) = task();
        let mut sets = SetDeliveries::default();
        sink.created(&mut sets, 1);
        let offer = |sink: &mut Sink, sets: &mut SetDeliveries| {
            sink.offer(sets, 1, WatchResponse::default(), 1)
        };
        let taken = (0..)
            .take_while(|_| offer(&mut sink, &mut sets) == SendOutcome::Sent)
            .count();
        assert_eq!(taken, CAPACITY - RESERVED - 1);
        for round in 0..10 {
            sink.set_down(&mut sets, 1, round % 2 == 0);
        }
        assert!(!sink.has_room(&mut sets));
        sink.finish(&mut sets, 1, Error::invalid("over"));
        let mut last = None;
        while let Ok(item) = receiver.try_recv() {
            last = Some(item);
        }
        assert!(
            matches!(last, Some(TaskWatcherItem::Response(Err(error))) if error.kind() == ErrorKind::InvalidArgument)
        );
    }

    #[test]
    fn down_and_up_are_delivered_alternately() {
        let (mut sink, receiver) = task();
        for is_down in [true, true, false, false, true] {
            sink.set_down(&mut SetDeliveries::default(), 1, is_down);
        }
        let items = std::iter::from_fn(|| receiver.try_recv().ok());
        let text: Vec<_> = items.map(|item| format!("{item:?}")).collect();
        assert_eq!(text, ["Down", "Up", "Down"]);
    }
}

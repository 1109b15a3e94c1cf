//! Where a watch delivers to.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::event::WatchResponse;
use super::sets::Sets;
use super::state::Id;
use super::task_watcher::{SPARE, TaskWatcherItem};
use crate::error::{Error, Result};
use crate::runtime::{BoundedSender, Offer};

#[derive(Debug)]
pub(super) enum Sink {
    /// A channel of its own.
    Reader(BoundedSender<Result<WatchResponse>>),
    /// A task on the runtime.
    Task {
        notes: mpsc::Sender<TaskWatcherItem>,
        /// Whether the reader was told `Down`; what it has no room for, it is not told.
        down: bool,
    },
    /// The set of this number.
    Set(u64),
}

impl Sink {
    pub(super) fn offer(
        &mut self,
        sets: &mut Sets,
        id: Id,
        response: WatchResponse,
        size: usize,
    ) -> Offer {
        match self {
            Sink::Reader(bounded_sender) => bounded_sender.offer(Ok(response), size),
            Sink::Task { notes, .. } if notes.capacity() <= SPARE => match notes.is_closed() {
                true => Offer::Gone,
                false => Offer::Full,
            },
            Sink::Task { notes, .. } => match notes.try_send(TaskWatcherItem::Item(Ok(response))) {
                Ok(()) => Offer::Taken,
                Err(TrySendError::Full(_)) => Offer::Full,
                Err(TrySendError::Closed(_)) => Offer::Gone,
            },
            Sink::Set(set) => sets.offer(*set, id, response, size),
        }
    }

    pub(super) fn has_room(&mut self, sets: &mut Sets) -> bool {
        match self {
            Sink::Reader(bounded_sender) => bounded_sender.has_room(),
            Sink::Task { notes, .. } => {
                notes.capacity() >= notes.max_capacity() / 2 || notes.is_closed()
            }
            Sink::Set(set) => sets.has_room(*set),
        }
    }

    /// The watch is cut off from its server, or there again.
    pub(super) fn note(&mut self, sets: &mut Sets, id: Id, is_down: bool) {
        let (notes, down) = match self {
            Sink::Reader(_) => return,
            Sink::Task { notes, down } => (notes, down),
            Sink::Set(set) => return sets.note(*set, id, is_down),
        };
        // WatchEntry place is left for the last item. A reader with so much to read learns of the stream
        // by what it reads.
        if *down != is_down && notes.capacity() > 1 {
            *down = is_down;
            let _ = notes.try_send(if is_down {
                TaskWatcherItem::Down
            } else {
                TaskWatcherItem::Up
            });
        }
    }

    /// The server has the watch: its first `Up`.
    pub(super) fn created(&mut self, sets: &mut Sets, id: Id) {
        match self {
            Sink::Reader(_) => {}
            Sink::Task { notes, .. } => drop(notes.try_send(TaskWatcherItem::Up)),
            Sink::Set(set) => sets.note(*set, id, false),
        }
    }

    /// The last item.
    pub(super) fn finish(self, sets: &mut Sets, id: Id, error: Error) {
        match self {
            Sink::Reader(bounded_sender) => bounded_sender.finish(Err(error)),
            Sink::Task { notes, .. } => {
                let _ = notes.try_send(TaskWatcherItem::Item(Err(error)));
            }
            Sink::Set(set) => sets.finish(set, id, error),
        }
    }

    /// The reader does not want it any more.
    pub(super) fn end(self, sets: &mut Sets, id: Id) {
        match self {
            Sink::Reader(bounded_sender) => bounded_sender.end(),
            Sink::Task { .. } => {}
            Sink::Set(set) => sets.leave(set, id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::rpc::watch::task_watcher;

    #[test]
    fn a_task_that_does_not_read_still_gets_its_last_item() {
        let (sender, mut receiver) = mpsc::channel(task_watcher::ROOM);
        let mut sink = Sink::Task {
            notes: sender,
            down: false,
        };
        let mut sets = Sets::default();
        sink.created(&mut sets, 1);
        let offer =
            |sink: &mut Sink, sets: &mut Sets| sink.offer(sets, 1, WatchResponse::default(), 1);
        let taken = (0..)
            .take_while(|_| offer(&mut sink, &mut sets) == Offer::Taken)
            .count();
        assert_eq!(taken, task_watcher::ROOM - SPARE - 1);
        for round in 0..10 {
            sink.note(&mut sets, 1, round % 2 == 0);
        }
        assert!(!sink.has_room(&mut sets));
        sink.finish(&mut sets, 1, Error::invalid("over"));
        let mut last = None;
        while let Ok(note) = receiver.try_recv() {
            last = Some(note);
        }
        assert!(
            matches!(last, Some(TaskWatcherItem::Item(Err(error))) if error.kind() == ErrorKind::InvalidArgument)
        );
    }

    #[test]
    fn down_and_up_take_turns() {
        let (sender, mut receiver) = mpsc::channel(task_watcher::ROOM);
        let mut sink = Sink::Task {
            notes: sender,
            down: false,
        };
        for is_down in [true, true, false, false, true] {
            sink.note(&mut Sets::default(), 1, is_down);
        }
        let notes = std::iter::from_fn(|| receiver.try_recv().ok());
        let text: Vec<_> = notes.map(|note| format!("{note:?}")).collect();
        assert_eq!(text, ["Down", "Up", "Down"]);
    }
}

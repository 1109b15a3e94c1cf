//! Where a watch delivers to.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::event::WatchResponse;
use super::notes::{Note, SPARE};
use super::set::WatchKey;
use super::state::Id;
use crate::error::{Error, Result};
use crate::rt::{Offer, Outlet};

/// The outlets of the watch sets, by their numbers.
pub(super) type Sets = BTreeMap<u64, Outlet<(WatchKey, Result<WatchResponse>)>>;

#[derive(Debug)]
pub(super) enum Sink {
    /// A channel of its own.
    Reader(Outlet<Result<WatchResponse>>),
    /// A task on the runtime.
    Task {
        notes: mpsc::Sender<Note>,
        /// Whether the reader was told `Down`; what it has no room for, it is not told.
        down: bool,
    },
    /// A set's channel.
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
            Sink::Reader(outlet) => outlet.offer(Ok(response), size),
            Sink::Task { notes, .. } if notes.capacity() <= SPARE => match notes.is_closed() {
                true => Offer::Gone,
                false => Offer::Full,
            },
            Sink::Task { notes, .. } => match notes.try_send(Note::Item(Ok(response))) {
                Ok(()) => Offer::Taken,
                Err(TrySendError::Full(_)) => Offer::Full,
                Err(TrySendError::Closed(_)) => Offer::Gone,
            },
            Sink::Set(set) => match sets.get_mut(set) {
                Some(outlet) => outlet.offer((WatchKey::of(id), Ok(response)), size),
                None => Offer::Gone,
            },
        }
    }

    pub(super) fn has_room(&mut self, sets: &mut Sets) -> bool {
        match self {
            Sink::Reader(outlet) => outlet.has_room(),
            Sink::Task { notes, .. } => {
                notes.capacity() >= notes.max_capacity() / 2 || notes.is_closed()
            }
            Sink::Set(set) => sets.get_mut(set).is_none_or(Outlet::has_room),
        }
    }

    /// The watch is cut off from its server, or there again.
    pub(super) fn note(&mut self, is_down: bool) {
        let Sink::Task { notes, down } = self else {
            return;
        };
        // One place is left for the last item. A reader with so much to read learns of the stream
        // by what it reads.
        if *down != is_down && notes.capacity() > 1 {
            *down = is_down;
            let _ = notes.try_send(if is_down { Note::Down } else { Note::Up });
        }
    }

    /// The server has the watch: its first `Up`.
    pub(super) fn created(&mut self) {
        if let Sink::Task { notes, .. } = self {
            let _ = notes.try_send(Note::Up);
        }
    }

    /// The last item.
    pub(super) fn finish(self, sets: &mut Sets, id: Id, error: Error) {
        match self {
            Sink::Reader(outlet) => outlet.finish(Err(error)),
            Sink::Task { notes, .. } => {
                let _ = notes.try_send(Note::Item(Err(error)));
            }
            Sink::Set(set) => {
                if let Some(outlet) = sets.get_mut(&set) {
                    outlet.insist((WatchKey::of(id), Err(error)), size_of::<Error>());
                }
            }
        }
    }

    /// The reader does not want it any more.
    pub(super) fn end(self) {
        if let Sink::Reader(outlet) = self {
            outlet.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::watch::notes;

    #[test]
    fn a_task_that_does_not_read_still_gets_its_last_item() {
        let (sender, mut receiver) = mpsc::channel(notes::ROOM);
        let mut sink = Sink::Task {
            notes: sender,
            down: false,
        };
        let mut sets = Sets::new();
        sink.created();
        let mut offer = |sink: &mut Sink| sink.offer(&mut sets, 1, WatchResponse::default(), 1);
        let taken = (0..)
            .take_while(|_| offer(&mut sink) == Offer::Taken)
            .count();
        assert_eq!(taken, notes::ROOM - SPARE - 1);
        for round in 0..10 {
            sink.note(round % 2 == 0);
        }
        assert!(!sink.has_room(&mut sets));
        sink.finish(&mut sets, 1, Error::invalid("over"));
        let mut last = None;
        while let Ok(note) = receiver.try_recv() {
            last = Some(note);
        }
        assert!(
            matches!(last, Some(Note::Item(Err(error))) if error.kind() == ErrorKind::InvalidArgument)
        );
    }

    #[test]
    fn down_and_up_take_turns() {
        let (sender, mut receiver) = mpsc::channel(notes::ROOM);
        let mut sink = Sink::Task {
            notes: sender,
            down: false,
        };
        for is_down in [true, true, false, false, true] {
            sink.note(is_down);
        }
        let notes = std::iter::from_fn(|| receiver.try_recv().ok());
        let text: Vec<_> = notes.map(|note| format!("{note:?}")).collect();
        assert_eq!(text, ["Down", "Up", "Down"]);
    }
}

//! A watch for a task on the runtime.

use tokio::sync::mpsc;

use super::event::WatchResponse;
use super::hub::Ticket;
use crate::error::{Error, Result};

/// What a task is told of its watch.
#[derive(Debug)]
pub(crate) enum Note {
    /// Events, progress, or the error that is the last note.
    Item(Result<WatchResponse>),
    /// The watch is cut off from its server.
    Down,
    /// The server has it (again).
    Up,
}

/// The notes that may wait.
pub(super) const ROOM: usize = 64;

/// So many places are kept for `Down`, `Up` and the last item.
pub(super) const SPARE: usize = 4;

/// The reading end; dropping it cancels the watch.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(super) receiver: mpsc::Receiver<Note>,
    pub(super) ticket: Ticket,
}

impl Notes {
    /// The next note. After an error come only errors.
    pub(crate) async fn recv(&mut self) -> Note {
        match self.receiver.recv().await {
            Some(note) => note,
            None => Note::Item(Err(Error::closed())),
        }
    }

    /// The next note, for those who wait for several things at a time.
    pub(crate) fn poll_recv(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Note> {
        let note = self.receiver.poll_recv(cx);
        note.map(|note| note.unwrap_or_else(|| Note::Item(Err(Error::closed()))))
    }

    /// Asks how far the watch is; the answer is a note with progress.
    pub(crate) fn request_progress(&self) {
        self.ticket.request_progress();
    }
}

//! The bounded queue of the changes of a view. Changes that do not fit are reduced to one for each
//! instance.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Select, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use super::change::Change;
use super::change_backlog::ChangeBacklog;
use super::directory::{ChangeRecord, Directory};

/// The number of changes that fit into the channel. crossbeam allocates all of them at once.
const CAPACITY: usize = 64;

/// The sending side of the changes of a view.
///
/// A full channel wakes the worker, which selects on [`wait`](ChangeQueue::wait), only when the reader
/// takes a change. Until the changes are requested for the first time, a full channel is emptied; the
/// first reader then starts with one `Reset`.
#[derive(Debug)]
pub(super) struct ChangeQueue {
    sender: Sender<Change>,
    /// Empties the channel while it has no reader.
    unread: Receiver<Change>,
    wanted: Arc<Wanted>,
    backlog: ChangeBacklog,
    /// The channel was emptied, and a reader must start with all instances.
    dropped: bool,
}

/// Whether the changes were ever requested.
#[derive(Debug, Default)]
pub(super) struct Wanted(Mutex<bool>);

impl Wanted {
    /// Requests the changes. Returns whether it is the first request.
    pub(super) fn want(&self) -> bool {
        !std::mem::replace(&mut *self.0.lock(), true)
    }
}

impl ChangeQueue {
    pub(super) fn new() -> (Self, Receiver<Change>, Arc<Wanted>) {
        ChangeQueue::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> (Self, Receiver<Change>, Arc<Wanted>) {
        let (sender, receiver) = bounded(capacity);
        let wanted = Arc::new(Wanted::default());
        let queue = ChangeQueue {
            sender,
            unread: receiver.clone(),
            wanted: Arc::clone(&wanted),
            backlog: ChangeBacklog::default(),
            dropped: false,
        };
        (queue, receiver, wanted)
    }

    /// Queues a change.
    pub(super) fn push(&mut self, record: ChangeRecord) {
        if self.dropped {
            return;
        }
        if self.backlog.is_empty() {
            match self.sender.try_send(record.change) {
                Ok(()) => return,
                Err(TrySendError::Full(change) | TrySendError::Disconnected(change)) => {
                    let before = record.before;
                    self.backlog.push(ChangeRecord { change, before });
                }
            }
        } else {
            self.backlog.push(record);
        }
        self.drop_unwanted();
    }

    /// Moves waiting changes into the channel while it has room.
    pub(super) fn flush(&mut self, directory: &Directory) {
        if self.dropped && *self.wanted.0.lock() {
            self.dropped = false;
            for change in directory.first_changes() {
                self.backlog.push_whole(change);
            }
        }
        while let Some(change) = self.backlog.pop() {
            if let Err(TrySendError::Full(change) | TrySendError::Disconnected(change)) =
                self.sender.try_send(change)
            {
                return self.backlog.put_back(change);
            }
        }
    }

    /// Whether changes wait for room in the channel.
    pub(super) fn is_behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Registers the wait for room in the channel, if it is needed.
    pub(super) fn wait<'a>(&'a self, select: &mut Select<'a>) {
        if self.is_behind() {
            select.send(&self.sender);
        }
    }

    /// Drops all changes if they were never requested.
    fn drop_unwanted(&mut self) {
        // The lock keeps a first reader from receiving the channel at the same time.
        let wanted = self.wanted.0.lock();
        if !*wanted {
            while self.unread.try_recv().is_ok() {}
            self.backlog = ChangeBacklog::default();
            self.dropped = true;
        }
    }
}

#[cfg(test)]
mod tests;

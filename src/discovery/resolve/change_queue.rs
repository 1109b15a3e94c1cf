//! The bounded queue of the changes of a view: what there is no room for waits as the newest change of
//! each instance.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Select, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use super::change::Change;
use super::change_backlog::ChangeBacklog;
use super::directory::{ChangeRecord, Directory};

/// Changes that wait in the channel. crossbeam allocates all of them at once, and what does not fit is
/// kept elsewhere.
const ROOM: usize = 64;

/// The sending end of the changes of a view.
///
/// A full channel costs nothing until its reader takes something: the worker that selects on
/// [`wait`](ChangeQueue::wait) is woken then, and not before. Until somebody asks for the changes for the
/// first time, a full channel is emptied, and everything begins anew with one `Reset` when it is wanted.
#[derive(Debug)]
pub(super) struct ChangeQueue {
    sender: Sender<Change>,
    /// To take back what nobody can have read.
    unread: Receiver<Change>,
    wanted: Arc<Wanted>,
    backlog: ChangeBacklog,
    /// What was told was taken back: the next reader knows nothing.
    forgotten: bool,
}

/// Whether anybody ever asked for the changes.
#[derive(Debug, Default)]
pub(super) struct Wanted(Mutex<bool>);

impl Wanted {
    /// Somebody asks; says whether it is for the first time.
    pub(super) fn want(&self) -> bool {
        !std::mem::replace(&mut *self.0.lock(), true)
    }
}

impl ChangeQueue {
    pub(super) fn new() -> (Self, Receiver<Change>, Arc<Wanted>) {
        ChangeQueue::with_room(ROOM)
    }

    fn with_room(room: usize) -> (Self, Receiver<Change>, Arc<Wanted>) {
        let (sender, receiver) = bounded(room);
        let wanted = Arc::new(Wanted::default());
        let queue = ChangeQueue {
            sender,
            unread: receiver.clone(),
            wanted: Arc::clone(&wanted),
            backlog: ChangeBacklog::default(),
            forgotten: false,
        };
        (queue, receiver, wanted)
    }

    /// Queues what a step of the directory tells.
    pub(super) fn tell(&mut self, told: ChangeRecord) {
        if self.forgotten {
            return;
        }
        if self.backlog.is_empty() {
            match self.sender.try_send(told.change) {
                Ok(()) => return,
                Err(TrySendError::Full(change) | TrySendError::Disconnected(change)) => {
                    let before = told.before;
                    self.backlog.push(ChangeRecord { change, before });
                }
            }
        } else {
            self.backlog.push(told);
        }
        self.forget_unwanted();
    }

    /// Moves into the channel what has room there.
    pub(super) fn flush(&mut self, directory: &Directory) {
        if self.forgotten && *self.wanted.0.lock() {
            self.forgotten = false;
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

    /// Whether something waits for room in the channel.
    pub(super) fn is_behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Waits for room, if it is needed.
    pub(super) fn wait<'a>(&'a self, select: &mut Select<'a>) {
        if self.is_behind() {
            select.send(&self.sender);
        }
    }

    /// Takes everything back when nobody can have seen any of it.
    fn forget_unwanted(&mut self) {
        // Locked: nobody gets hold of the channel meanwhile.
        let wanted = self.wanted.0.lock();
        if !*wanted {
            while self.unread.try_recv().is_ok() {}
            self.backlog = ChangeBacklog::default();
            self.forgotten = true;
        }
    }
}

#[cfg(test)]
mod tests;

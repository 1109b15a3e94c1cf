//! The ownership of one watch.

use super::command::{Command, CommandSender};
use super::watch_id::WatchId;

/// Owns a watch of the watch task. Dropping it removes the watch.
#[derive(Debug)]
pub(crate) struct WatchGuard {
    id: WatchId,
    task: CommandSender,
    released: bool,
}

impl WatchGuard {
    pub(super) fn new(id: WatchId, task: CommandSender) -> Self {
        WatchGuard {
            id,
            task,
            released: false,
        }
    }

    pub(super) fn task(&self) -> &CommandSender {
        &self.task
    }

    pub(super) fn request_progress(&self) {
        self.task.send_if_running(Command::RequestProgress(self.id));
    }

    /// Gives up ownership: the watch goes on without the guard. Returns its id.
    pub(super) fn release(mut self) -> WatchId {
        self.released = true;
        self.id
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if !self.released {
            self.task.send_if_running(Command::Remove(self.id));
        }
    }
}

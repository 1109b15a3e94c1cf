//! The ownership of a set of watches.

use super::command::{Command, CommandSender};
use super::sink::Sink;
use super::watch_id::WatchId;

/// Owns a set of watches of the watch task. Dropping it removes the set with all its watches.
#[derive(Debug)]
pub(super) struct SetGuard {
    number: u64,
    task: CommandSender,
}

impl SetGuard {
    pub(super) fn new(number: u64, task: CommandSender) -> Self {
        SetGuard { number, task }
    }

    /// The sink of a watch of this set.
    pub(super) fn sink(&self) -> Sink {
        Sink::Set(self.number)
    }

    pub(super) fn task(&self) -> &CommandSender {
        &self.task
    }

    pub(super) fn remove(&self, id: WatchId) {
        self.task.send_if_running(Command::Remove(id));
    }

    pub(super) fn request_progress(&self, id: WatchId) {
        self.task.send_if_running(Command::RequestProgress(id));
    }
}

impl Drop for SetGuard {
    fn drop(&mut self) {
        self.task.send_if_running(Command::RemoveSet(self.number));
    }
}

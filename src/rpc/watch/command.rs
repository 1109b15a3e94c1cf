//! The commands of the watch task.

use tokio::sync::{mpsc, oneshot};

use super::set_delivery::SetDelivery;
use super::sink::Sink;
use super::watch_id::WatchId;
use super::watch_request::Watch;
use crate::error::{Error, Result};

/// A command to the watch task.
#[derive(Debug)]
pub(super) enum Command {
    Add {
        id: WatchId,
        watch: Watch,
        sink: Sink,
        created: Option<oneshot::Sender<Result<()>>>,
    },
    Remove(WatchId),
    RequestProgress(WatchId),
    AddSet(u64, SetDelivery),
    RemoveSet(u64),
    /// Asks why the last stream failed, if none has worked since.
    LastFailure(oneshot::Sender<Option<String>>),
}

/// The sending end of the task's command queue. The task has ended when a send fails.
#[derive(Clone, Debug)]
pub(super) struct CommandSender(mpsc::UnboundedSender<Command>);

impl CommandSender {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (CommandSender(sender), receiver)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a command.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) when the task has ended.
    pub(super) fn send(&self, command: Command) -> Result<()> {
        self.0.send(command).map_err(|_| Error::closed())
    }

    /// Sends a command that is void once the task has ended, such as the removal of a watch.
    pub(super) fn send_if_running(&self, command: Command) {
        let _ = self.0.send(command);
    }
}

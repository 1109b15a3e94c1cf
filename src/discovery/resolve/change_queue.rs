//! The bounded queue of the changes of a view. Changes that do not fit are reduced to one for each
//! instance.

use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Select, Sender, TrySendError, bounded};

use super::change::Change;
use super::change_backlog::ChangeBacklog;
use super::directory::ChangeRecord;

/// The number of changes that fit into the channel. crossbeam allocates all of them at once.
const CAPACITY: usize = 64;

/// The channel of the changes of a view. The first request of a reader creates it.
#[derive(Debug)]
pub(super) struct ChangeChannel {
    capacity: usize,
    ends: OnceLock<(Sender<Change>, Receiver<Change>)>,
}

impl ChangeChannel {
    /// Returns the channel, and whether this request created it: then the worker must put the first
    /// changes into it.
    pub(super) fn request(&self) -> (&Receiver<Change>, bool) {
        let mut is_first = false;
        let (_, receiver) = self.ends.get_or_init(|| {
            is_first = true;
            bounded(self.capacity)
        });
        (receiver, is_first)
    }
}

/// The sending side of the changes of a view.
///
/// Until the first request, the queue stores as many changes as fit into the channel. When there are
/// more, it drops all of them, and the reader starts with one `Reset`. While the channel is full, the
/// worker selects on [`wait_for_room`](ChangeQueue::wait_for_room): it is woken only when the reader
/// takes a change.
#[derive(Debug)]
pub(super) struct ChangeQueue {
    channel: Arc<ChangeChannel>,
    /// The sender. Set when the changes were requested and the early ones are in the queue.
    sender: Option<Sender<Change>>,
    /// The changes before the request. `None` when more than the channel holds were pushed: the reader
    /// then starts with all instances.
    early: Option<Vec<Change>>,
    backlog: ChangeBacklog,
}

impl ChangeQueue {
    pub(super) fn new() -> (Self, Arc<ChangeChannel>) {
        ChangeQueue::with_capacity(CAPACITY)
    }

    /// Creates the queue of a view whose instances were listed before: a reader starts with all of them.
    pub(super) fn of_listed() -> (Self, Arc<ChangeChannel>) {
        let (mut queue, channel) = ChangeQueue::new();
        queue.early = None;
        (queue, channel)
    }

    /// Whether the view was dropped.
    pub(super) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.channel) == 1
    }

    fn with_capacity(capacity: usize) -> (Self, Arc<ChangeChannel>) {
        let channel = Arc::new(ChangeChannel {
            capacity,
            ends: OnceLock::new(),
        });
        let queue = ChangeQueue {
            channel: Arc::clone(&channel),
            sender: None,
            early: Some(Vec::new()),
            backlog: ChangeBacklog::default(),
        };
        (queue, channel)
    }

    /// Queues a change.
    pub(super) fn push(&mut self, record: ChangeRecord) {
        let Some(sender) = &self.sender else {
            self.early
                .take_if(|early| early.len() >= self.channel.capacity);
            if let Some(early) = &mut self.early {
                early.push(record.change);
            }
            return;
        };
        if !self.backlog.is_empty() {
            return self.backlog.push(record);
        }
        if let Err(TrySendError::Full(change) | TrySendError::Disconnected(change)) =
            sender.try_send(record.change)
        {
            let before = record.before;
            self.backlog.push(ChangeRecord { change, before });
        }
    }

    /// Moves waiting changes into the channel while it has room. `first_changes` are those for a new
    /// reader, which lead to all instances.
    pub(super) fn flush(&mut self, first_changes: impl FnOnce() -> Vec<Change>) {
        if let (None, Some((sender, _))) = (&self.sender, self.channel.ends.get()) {
            self.sender = Some(sender.clone());
            let first = self.early.take();
            for change in first.unwrap_or_else(first_changes) {
                self.backlog.push_whole(change);
            }
        }
        let Some(sender) = &self.sender else { return };
        while let Some(change) = self.backlog.pop() {
            if let Err(TrySendError::Full(change) | TrySendError::Disconnected(change)) =
                sender.try_send(change)
            {
                return self.backlog.put_back(change);
            }
        }
    }

    /// Whether changes wait for room in the channel.
    pub(super) fn is_full(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Registers the wait for room in the channel, if it is needed.
    pub(super) fn wait_for_room<'a>(&'a self, select: &mut Select<'a>) {
        if let (true, Some(sender)) = (self.is_full(), &self.sender) {
            select.send(sender);
        }
    }
}

#[cfg(test)]
mod tests;

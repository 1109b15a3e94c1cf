//! The items of a watch that a task of the runtime reads, and the size of its queue.

use super::event::WatchResponse;
use crate::error::Result;
use crate::runtime::Capacity;

/// An item of a [`TaskWatcher`](super::task_watcher::TaskWatcher).
#[derive(Debug)]
pub(crate) enum TaskWatcherItem {
    /// Events, progress, or the error that is the last item.
    Response(Result<WatchResponse>),
    /// The server does not have the watch any more: its stream was lost.
    Down,
    /// The server has the watch: for the first time, or again with everything that it missed.
    Up,
}

/// The items that the queue holds, without the last one.
pub(super) const CAPACITY: usize = 260;

/// The part of the capacity that is reserved for `Down` and `Up`.
pub(super) const RESERVED: usize = 4;

/// The room for responses.
pub(super) const ROOM: Capacity = Capacity {
    items: CAPACITY - RESERVED,
    bytes: 8 << 20,
};

//! The public id of a watch in a set.

use super::watch_id::WatchId;

/// Identifies a watch of a [`WatchSet`](crate::watch::WatchSet) or of a
/// [`LatestSet`](crate::watch::LatestSet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchKey(WatchId);

impl WatchKey {
    /// The set itself, in the one item that concerns all watches of it: the `Err` that comes last
    /// when the client is closed.
    pub const SET: WatchKey = WatchKey(0);

    pub(super) fn of(id: WatchId) -> Self {
        WatchKey(id)
    }

    pub(super) fn id(self) -> WatchId {
        self.0
    }
}

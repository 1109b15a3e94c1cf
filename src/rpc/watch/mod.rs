//! The watch service: requests and responses, the state machine of all watches of a client, and the
//! task that performs its actions.

mod command;
mod event;
mod latest_feed;
mod latest_set;
mod latest_slots;
mod pending_watch;
mod revision_read;
mod set_delivery;
mod set_guard;
mod sink;
mod stalled_watches;
mod state;
mod task_watcher;
mod task_watcher_item;
mod turn;
mod watch_context;
mod watch_guard;
mod watch_id;
mod watch_key;
mod watch_registry;
mod watch_request;
mod watch_set;
mod watch_stream;
mod watch_task;
mod watcher;

pub use event::{Event, EventKind, WatchResponse};
pub use latest_set::LatestSet;
#[cfg(any(test, fuzzing))]
pub(crate) use state::fuzz;
pub(crate) use task_watcher::TaskWatcher;
pub(crate) use task_watcher_item::TaskWatcherItem;
pub(crate) use watch_context::WatchContext;
pub use watch_key::WatchKey;
pub(crate) use watch_registry::WatchRegistry;
pub use watch_request::Watch;
pub use watch_set::WatchSet;
pub use watcher::Watcher;

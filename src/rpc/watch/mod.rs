//! Watching keys: requests, responses, the state of all watches of a client, and the task that
//! carries it out.

mod event;
mod handle;
mod latest;
mod request;
mod set;
mod sets;
mod sink;
mod state;
mod task;
mod task_watcher;
mod watch_registry;
mod watch_stream;

pub use event::{Event, EventKind, WatchResponse};
pub use handle::Watcher;
pub use latest::LatestSet;
pub use request::Watch;
pub use set::{WatchKey, WatchSet};
pub(crate) use task_watcher::{TaskWatcher, TaskWatcherItem};
pub(crate) use watch_registry::{Host, WatchRegistry};

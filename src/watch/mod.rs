//! Watching keys: requests, responses, the state of all watches of a client, and the task that
//! carries it out.

mod event;
mod handle;
mod hub;
mod latest;
mod line;
#[cfg(test)]
mod model;
mod notes;
mod request;
mod set;
mod sets;
mod sink;
mod state;
mod task;

pub use event::{Event, EventKind, WatchResponse};
pub use handle::{Iter, Watcher};
pub(crate) use hub::{Host, Hub};
pub use latest::LatestSet;
pub(crate) use notes::{Note, Notes};
pub use request::Watch;
pub use set::{WatchKey, WatchSet};

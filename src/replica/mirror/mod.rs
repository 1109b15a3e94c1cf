//! A key range kept as one consistent picture: list, then watch, and list again when history is gone.

mod change_queue;
mod contents;
mod event;
mod handle;
mod list;
mod task;
#[cfg(test)]
mod tests;

pub use contents::Snapshot;
pub use event::{KeyChange, MirrorEvent, ResetCause};
pub use handle::Mirror;
pub(crate) use task::open;

//! In-memory replica of a key range: lists, watches, and lists again when history is lost.

mod change_queue;
mod contents;
mod event;
mod free;
mod handle;
mod key_tree;
mod list;
mod task;
#[cfg(test)]
mod tests;

pub use contents::Snapshot;
pub use event::{KeyChange, MirrorEvent, ResetCause};
pub use handle::Mirror;
pub(crate) use task::{MirrorSettings, open, open_unlisted};

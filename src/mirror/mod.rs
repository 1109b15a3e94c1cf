//! A key range kept as one consistent picture: list, then watch, and list again when history is gone.

mod event;
mod handle;
mod picture;
mod task;

pub use event::{KeyChange, MirrorEvent};
pub use handle::Mirror;
pub use picture::Snapshot;
pub(crate) use task::open;

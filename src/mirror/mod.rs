//! A key range kept as one consistent picture: list, then watch, and list again when history is gone.

mod event;
mod handle;
mod list;
#[cfg(test)]
mod model;
mod picture;
mod task;
mod teller;

pub use event::{KeyChange, MirrorEvent, ResetCause};
pub use handle::Mirror;
pub use picture::Snapshot;
pub(crate) use task::open;

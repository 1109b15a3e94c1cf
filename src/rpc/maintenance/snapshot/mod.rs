//! Snapshots: read at the reader's pace, verified, written to a file whole or not at all.

mod disk;
mod file;
mod source;
mod stream;
mod verify;

pub(crate) use file::save;
pub use stream::{SnapshotProgress, SnapshotStream, VerifiedSnapshot};

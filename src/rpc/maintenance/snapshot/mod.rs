//! Snapshots: streamed with back-pressure, verified, and saved to a file atomically.

mod disk;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod snapshot_file;
mod snapshot_source;
mod snapshot_stream;
mod verifier;

pub(crate) use snapshot_file::save;
pub use snapshot_stream::{SnapshotProgress, SnapshotStream, VerifiedSnapshot};

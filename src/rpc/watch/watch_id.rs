//! The ids of watches within this process.

/// Identifies a watch for as long as it exists; the server's ids change with every stream.
pub(crate) type WatchId = u64;

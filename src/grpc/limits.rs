//! The size limits of a client.

use crate::error::ServerError;

/// The largest messages in bytes, and the most operations of a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    pub(crate) receive: usize,
    pub(crate) send: usize,
    pub(crate) txn_ops: usize,
}

/// The error for a reply of `bytes` bytes that is over the limit.
#[cold]
pub(super) fn too_large(bytes: usize, limit: usize) -> ServerError {
    ServerError::too_large(format!(
        "the reply has {bytes} bytes and the limit is {limit} (ClientBuilder::receive_limit)"
    ))
}

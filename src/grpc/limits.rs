//! The size limits of a client.

/// The largest messages in bytes, and the most operations of a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    pub(crate) receive: usize,
    pub(crate) send: usize,
    pub(crate) txn_ops: usize,
}

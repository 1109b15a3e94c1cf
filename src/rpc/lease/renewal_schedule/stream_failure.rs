//! The failure of a renewal stream.

use std::sync::Arc;

use crate::error::ErrorKind;

/// The failure of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rpc::lease) struct StreamFailure {
    pub(in crate::rpc::lease) kind: ErrorKind,
    pub(in crate::rpc::lease) text: String,
    pub(in crate::rpc::lease) endpoint: Option<Arc<str>>,
}

impl StreamFailure {
    pub(in crate::rpc::lease) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        StreamFailure {
            kind,
            text: text.into(),
            endpoint: None,
        }
    }
}

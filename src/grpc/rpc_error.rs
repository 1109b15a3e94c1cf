//! The failure of one RPC: below gRPC, or as an answer of the server.

use super::connect::connect_error::{ConnectError, RequestSent};
use crate::error::{Executed, ServerError};

/// The failure of one RPC.
#[derive(Clone, Debug)]
pub(crate) enum RpcError {
    ConnectError(ConnectError),
    Answer(ServerError),
}

impl RpcError {
    /// Whether the request may have been executed despite the failure.
    pub(crate) fn maybe_executed(&self) -> bool {
        match self {
            RpcError::ConnectError(fault) => fault.sent == RequestSent::Maybe,
            RpcError::Answer(answer) => answer.executed == Executed::Unknown,
        }
    }
}

/// Converts a status of the generated stubs.
pub(crate) fn classify(status: &tonic::Status) -> RpcError {
    let source = std::error::Error::source(status);
    match source.and_then(ConnectError::behind) {
        Some(fault) => RpcError::ConnectError(fault.clone()),
        None => RpcError::Answer(crate::error::ServerError::read(
            i32::from(status.code()),
            status.message(),
        )),
    }
}

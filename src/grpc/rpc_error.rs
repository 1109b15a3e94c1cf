//! The failure of one RPC: below gRPC, or as an answer of the server.

use std::fmt;

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

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RpcError::ConnectError(error) => error.fmt(f),
            RpcError::Answer(answer) => f.write_str(&answer.text),
        }
    }
}

impl std::error::Error for RpcError {}

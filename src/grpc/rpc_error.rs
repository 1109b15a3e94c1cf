//! The failure of one RPC: below gRPC, or as an answer of the server.

use std::fmt;

use super::connect::connect_error::{ConnectError, RequestSent};
use crate::error::{Executed, ServerError};

/// The failure of one RPC.
#[derive(Clone, Debug)]
pub(crate) enum RpcError {
    Connection(ConnectError),
    Status(ServerError),
}

impl RpcError {
    /// Whether the request may have been executed despite the failure.
    pub(crate) fn maybe_executed(&self) -> bool {
        match self {
            RpcError::Connection(error) => error.sent == RequestSent::Maybe,
            RpcError::Status(answer) => answer.executed == Executed::Unknown,
        }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RpcError::Connection(error) => error.fmt(f),
            RpcError::Status(answer) => f.write_str(&answer.text),
        }
    }
}

impl std::error::Error for RpcError {}

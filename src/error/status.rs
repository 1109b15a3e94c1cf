//! Interprets gRPC statuses. No other file does.
//!
//! The exact text identifies an error of etcd. The code does not: codes changed between releases
//! (the learner error was `Unavailable` until 3.6), and one code has several meanings (`OutOfRange`
//! is "compacted" and "future revision").

use super::ErrorKind::{self, *};
use super::messages::{self, Executed, Executed::*};
use super::printable::printable;

/// Whether and where a retry can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryHint {
    /// A retry does not help.
    None,
    /// This member cannot serve now; another one may.
    OtherMember,
    /// All members are equal in this respect: retry the same one after a short wait.
    SameMember,
    /// This member is a learner, and fails until it is promoted.
    Learner,
    /// The token was rejected: fetch a new one.
    NewToken(TokenRejection),
}

/// Why a token was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenRejection {
    /// The server has no such token: it expired, the server was restarted, or the user's
    /// password was changed.
    Invalid,
    /// Users or roles changed since the token was issued, or during the request.
    Old,
    /// The request had no token.
    Missing,
    /// The user does not have the permission. etcd before 3.4.22 and 3.5.6 also returns this for a
    /// watch whose token has expired.
    Denied,
}

/// A gRPC status, interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerError {
    pub(crate) kind: ErrorKind,
    pub(crate) executed: Executed,
    pub(crate) retry_hint: RetryHint,
    pub(crate) text: String,
}

impl ServerError {
    /// Interprets a status by its text, or by its code if the text is unknown.
    pub(crate) fn read(code: i32, message: &str) -> Self {
        let message = bare(message);
        let known = messages::find(message);
        let text = known.map_or(message, |known| known.text);
        let (kind, executed) = match known {
            Some(known) => (known.kind, known.executed),
            None => by_code(code, message),
        };
        ServerError {
            kind,
            executed,
            retry_hint: retry_hint(kind, text),
            text: match known {
                Some(known) => known.to_string(),
                None => printable(message.trim_end_matches('.')),
            },
        }
    }

    /// Returns whether authentication is disabled in the cluster. It then issues no tokens.
    pub(crate) fn is_auth_disabled(&self) -> bool {
        self.kind == FailedPrecondition && self.text.ends_with("authentication is not enabled")
    }

    /// The error for an answer that is not gRPC, or not protobuf.
    pub(crate) fn malformed(text: &str) -> Self {
        ServerError {
            kind: Protocol,
            executed: Unknown,
            retry_hint: RetryHint::None,
            text: printable(text),
        }
    }

    /// The error for an answer over the client's own limit. The request was executed.
    pub(crate) fn too_large(text: String) -> Self {
        ServerError {
            kind: TooLarge,
            executed: Unknown,
            retry_hint: RetryHint::None,
            text,
        }
    }
}

/// Removes the rendering of a status from the cancel reason of a watch (`rpc error: code =
/// PermissionDenied desc = etcdserver: permission denied`).
fn bare(message: &str) -> &str {
    match message.split_once(" desc = ") {
        Some((head, tail)) if head.starts_with("rpc error: code = ") => tail,
        _ => message,
    }
}

/// The hint for an error. `text` has no prefix.
fn retry_hint(kind: ErrorKind, text: &str) -> RetryHint {
    match text {
        "rpc not supported for learner" => RetryHint::Learner,
        "invalid auth token" => RetryHint::NewToken(TokenRejection::Invalid),
        "revision of auth store is old" => RetryHint::NewToken(TokenRejection::Old),
        "user name is empty" => RetryHint::NewToken(TokenRejection::Missing),
        // These errors concern the whole cluster or the request: another member would not help.
        "request canceled" | "context canceled" | "unhealthy cluster" => RetryHint::None,
        // A leader returns this during a leadership transfer. Its followers would forward the
        // request to it and wait.
        "raft proposal dropped" => RetryHint::SameMember,
        _ if kind == Unavailable => RetryHint::OtherMember,
        _ if kind == RateLimited => RetryHint::SameMember,
        _ => RetryHint::None,
    }
}

/// The kind of an unknown text. The code gives the kind, but proves nothing: a proxy may have sent
/// the error after it forwarded the request.
fn by_code(code: i32, message: &str) -> (ErrorKind, Executed) {
    match code {
        3 => (InvalidArgument, Unknown),
        4 => (Timeout, Unknown),
        5 => (NotFound, Unknown),
        6 => (AlreadyExists, Unknown),
        7 => (PermissionDenied, Unknown),
        // The size check of grpc-go, made before the request reaches etcd.
        8 if message.starts_with("grpc: received message larger than max") => (TooLarge, No),
        8 => (RateLimited, Unknown),
        9 => (FailedPrecondition, Unknown),
        // grpc-go has no handler for the method.
        12 if message.starts_with("unknown service ") || message.starts_with("unknown method ") => {
            (Unimplemented, No)
        }
        12 => (Unimplemented, Unknown),
        14 => (Unavailable, Unknown),
        16 => (Unauthenticated, Unknown),
        _ => (Server, Unknown),
    }
}

#[cfg(test)]
mod tests;

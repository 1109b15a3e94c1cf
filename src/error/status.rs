//! What a gRPC status means: the only place that interprets one.
//!
//! etcd's errors are told apart by their exact text. Codes will not do: they changed between
//! releases (the learner refusal was `Unavailable` until 3.6), and one code has several meanings
//! (`OutOfRange` is "compacted", "a future revision", and a codec's "reply too large").

use super::ErrorKind::{self, *};
use super::messages::{self, Executed, Executed::*};
use super::printable::printable;

/// What to do about an error, besides reporting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing: the answer is the answer.
    None,
    /// This member cannot serve now; another one may.
    Elsewhere,
    /// The member is as good as any other: ask it again a moment later.
    Again,
    /// This member is a learner, and will refuse until it is promoted.
    Learner,
    /// Something is wrong with the token: fetch a new one.
    Token(Complaint),
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// The server does not know it (any more): it expired, the server was restarted, or the user's
    /// password was changed.
    Invalid,
    /// Users or roles changed since it was made, or while the request was under way.
    Old,
    /// There was none.
    Missing,
    /// Its user may not do this. Watches are refused like this, too, for a token that expired, by
    /// servers before 3.4.22 and 3.5.6.
    Denied,
}

/// A gRPC status, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerError {
    pub(crate) kind: ErrorKind,
    pub(crate) executed: Executed,
    pub(crate) remedy: Remedy,
    pub(crate) text: String,
}

impl ServerError {
    /// Understands a status by its text first, and by its code only when the text is unknown.
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
            remedy: remedy(kind, text),
            text: match known {
                Some(known) => known.to_string(),
                None => printable(message.trim_end_matches('.')),
            },
        }
    }

    /// An answer that is not gRPC, or not protobuf.
    pub(crate) fn malformed(text: &str) -> Self {
        ServerError {
            kind: Protocol,
            executed: Unknown,
            remedy: Remedy::None,
            text: printable(text),
        }
    }

    /// An answer over the client's own limit: the request itself was served.
    pub(crate) fn too_large(text: String) -> Self {
        ServerError {
            kind: TooLarge,
            executed: Unknown,
            remedy: Remedy::None,
            text,
        }
    }
}

/// Watches carry the whole rendering of a status as their cancel reason
/// (`rpc error: code = PermissionDenied desc = etcdserver: permission denied`); the text is its tail.
fn bare(message: &str) -> &str {
    match message.split_once(" desc = ") {
        Some((head, tail)) if head.starts_with("rpc error: code = ") => tail,
        _ => message,
    }
}

/// `text` is without the prefix of etcd's errors.
fn remedy(kind: ErrorKind, text: &str) -> Remedy {
    match text {
        "rpc not supported for learner" => Remedy::Learner,
        "invalid auth token" => Remedy::Token(Complaint::Invalid),
        "revision of auth store is old" => Remedy::Token(Complaint::Old),
        "user name is empty" => Remedy::Token(Complaint::Missing),
        // The cluster is, for every member: nobody else would do it.
        "request canceled" | "context canceled" | "unhealthy cluster" => Remedy::None,
        // A leader says so while it hands over. Its followers would send it the request, and wait.
        "raft proposal dropped" => Remedy::Again,
        _ if kind == Unavailable => Remedy::Elsewhere,
        _ if kind == RateLimited => Remedy::Again,
        _ => Remedy::None,
    }
}

/// How the codec begins what it says about a reply that is not gRPC, or not protobuf.
const RUBBISH: &[&str] = &[
    "failed to decode Protobuf message",
    "protocol error: ",
    "Missing response message",
    "Unexpected EOF decoding stream",
    "Error deserializing status message header",
    "grpc-status header missing",
];

/// A text that is not etcd's, or not of an etcd that this crate knows. Its code says what sort of
/// failure it is and proves nothing: a proxy may have sent it after the request was passed on.
fn by_code(code: i32, message: &str) -> (ErrorKind, Executed) {
    match code {
        // 14 among them is a proxy that says that nobody is behind it (502, 503, 504).
        code if code != 14 && RUBBISH.iter().any(|text| message.starts_with(text)) => {
            (Protocol, Unknown)
        }
        3 => (InvalidArgument, Unknown),
        4 => (Timeout, Unknown),
        5 => (NotFound, Unknown),
        6 => (AlreadyExists, Unknown),
        7 => (PermissionDenied, Unknown),
        // grpc-go's own size check, made before the request reaches etcd.
        8 if message.starts_with("grpc: received message larger than max") => (TooLarge, No),
        8 => (RateLimited, Unknown),
        9 => (FailedPrecondition, Unknown),
        // The codec's receive limit: the request itself was served.
        11 if message.contains("message length too large") => (TooLarge, Unknown),
        // grpc-go has nobody to give the request to.
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

//! A failure below gRPC: a connection could not be made, or it broke.

use std::error::Error as StdError;
use std::fmt;

use crate::error::{ErrorKind, printable};

/// Whether the server may have received a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestSent {
    /// It cannot have: the bytes never left, or the server reported that it did not process them.
    No,
    /// It may have.
    Maybe,
}

/// A failure of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectError {
    pub(crate) sent: RequestSent,
    /// `Unavailable`; `Protocol`, when the peer is not an etcd server; or `Tls`, when TLS fails
    /// until a certificate, a file or a setting is changed.
    pub(crate) kind: ErrorKind,
    /// The server closed the connection without a reason.
    pub(crate) hung_up: bool,
    pub(crate) text: String,
}

impl ConnectError {
    /// No connection: nothing was sent.
    pub(crate) fn unconnected(text: impl Into<String>) -> Self {
        ConnectError {
            sent: RequestSent::No,
            kind: ErrorKind::Unavailable,
            hung_up: false,
            text: text.into(),
        }
    }

    /// No connection because the TLS handshake failed.
    pub(crate) fn tls(text: impl Into<String>) -> Self {
        ConnectError {
            kind: ErrorKind::Tls,
            ..ConnectError::unconnected(text)
        }
    }

    /// An I/O error during connection setup.
    pub(crate) fn of_io(error: &std::io::Error) -> Self {
        ConnectError {
            hung_up: is_hang_up(error),
            ..ConnectError::unconnected(describe_io(error))
        }
    }

    /// The peer is not an HTTP/2 server.
    pub(crate) fn protocol(text: impl Into<String>) -> Self {
        ConnectError {
            kind: ErrorKind::Protocol,
            ..ConnectError::unconnected(text)
        }
    }

    /// An error on an open stream.
    ///
    /// Two errors prove that the server did not process the request (RFC 9113, sections 6.8 and
    /// 8.7): a refused stream, and a stream above the last one that a GOAWAY names.
    pub(crate) fn of_stream(error: &h2::Error) -> Self {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let untouched = error.is_remote() && (refused || error.is_go_away());
        ConnectError {
            sent: if untouched {
                RequestSent::No
            } else {
                RequestSent::Maybe
            },
            kind: match is_protocol(error) {
                true => ErrorKind::Protocol,
                false => ErrorKind::Unavailable,
            },
            hung_up: false,
            text: describe(error),
        }
    }

    /// An HTTP/2 error during connection setup.
    pub(crate) fn of_handshake(error: &h2::Error) -> Self {
        if is_protocol(error) {
            ConnectError::protocol(format!("it is not an HTTP/2 server: {}", describe(error)))
        } else if let Some(error) = error.get_io() {
            ConnectError::of_io(error)
        } else {
            ConnectError::unconnected(describe(error))
        }
    }
}

/// Whether this side detected the error in what the peer sent.
fn is_protocol(error: &h2::Error) -> bool {
    error.is_library() && error.get_io().is_none()
        || error
            .get_io()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData)
}

fn is_hang_up(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;

    matches!(
        error.kind(),
        ConnectionReset | BrokenPipe | UnexpectedEof | ConnectionAborted | NotConnected
    )
}

/// Describes an h2 error, reduced to its I/O error if it has one.
pub(crate) fn describe(error: &h2::Error) -> String {
    match error.get_io() {
        Some(io) => describe_io(io),
        // The text of a GOAWAY is arbitrary.
        None => printable(&error.to_string()),
    }
}

/// Describes an I/O error without the error number of the operating system.
pub(crate) fn describe_io(error: &std::io::Error) -> String {
    use std::io::ErrorKind::*;

    match error.kind() {
        ConnectionRefused => "connection refused".into(),
        ConnectionReset => "connection reset by the server".into(),
        BrokenPipe | UnexpectedEof | ConnectionAborted | NotConnected => {
            "connection closed by the server".into()
        }
        _ => error.to_string(),
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for ConnectError {}

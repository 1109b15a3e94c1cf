//! What a probe asks of which server. Pure.

use std::ops::RangeInclusive;

/// One question to one server.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// A host name or an IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) question: Question,
}

/// What a probe asks.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// Whether the server accepts a connection.
    Connect,
    /// Whether it answers a GET of this path as expected.
    Get {
        path: String,
        expected: HttpExpectation,
    },
    /// Whether this service serves, by gRPC's health service.
    Serving { service: String },
}

/// The reply that an HTTP server is expected to send.
#[derive(Clone, Debug)]
pub(crate) struct HttpExpectation {
    pub(crate) status: RangeInclusive<u16>,
    /// A text in the body.
    pub(crate) body: Option<String>,
}

impl Probe {
    /// The host and the port, as they are written in a URL.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

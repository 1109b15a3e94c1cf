//! The files of the client's certificate. Pure.

/// The files of the client's certificate and its key, for servers that ask for them.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "__tls"), allow(dead_code, reason = "TLS reads them"))]
pub(super) struct Identity {
    pub(super) cert: String,
    pub(super) key: String,
}

//! The TLS settings of a client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

/// The TLS settings of a client: which servers to trust, and which certificate to present. Given to
/// [`ClientBuilder::tls`](crate::ClientBuilder::tls).
///
/// This type only holds the settings. [`connect`](crate::ClientBuilder::connect) reads the files
/// and reports errors in them, and each later connection reads them again: a certificate that is
/// replaced on disk is used by the next connection, without a restart. If a certificate and its key
/// do not match, because only one of them is replaced yet, they are read again for a fifth of a
/// second.
///
/// | what | rule |
/// |---|---|
/// | versions | TLS 1.2 and 1.3, HTTP/2 by ALPN |
/// | authorities | those given; without any, the system's (read once, by `connect`) |
/// | files | PEM, in any order and with any text between; a section that cannot be read is an error with its number and line |
/// | server name | the host of each endpoint, a DNS name or an IP address; for `unixs:` the file's name |
/// | client certificate | only if given; PEM, with an unencrypted PKCS #8, PKCS #1 or SEC1 key |
/// | never | an unverified server, a fallback to plaintext, session resumption |
///
/// A certificate that either side rejects is reported at once, as an error of the kind
/// [`Tls`](crate::ErrorKind::Tls) with the file, the endpoint and the reason.
///
/// The cryptography is ring, or aws-lc with the feature `tls-aws-lc`, which has priority when both
/// are enabled. No process-wide default is installed.
///
/// ```no_run
/// use etcd_blocking::{Client, Tls};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let tls = Tls::new()
///     .ca_file("/etc/etcd/ca.pem")
///     .client_cert_files("/etc/etcd/client.pem", "/etc/etcd/client.key");
/// let client = Client::builder(["https://10.0.0.1:2379"]).tls(tls).connect()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "settings have no effect until they are passed to ClientBuilder::tls"]
pub struct Tls {
    pub(super) authorities: Vec<Source>,
    pub(super) identity: Option<(Source, Source)>,
    pub(super) name: Option<String>,
    pub(super) names: Vec<(String, String)>,
}

/// The source of certificates or of a key.
#[derive(Clone)]
pub(super) enum Source {
    File(PathBuf),
    Bytes(Arc<Zeroizing<Vec<u8>>>),
}

impl Source {
    fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Source::Bytes(Arc::new(Zeroizing::new(bytes.into())))
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Source::File(_))
    }
}

impl Tls {
    /// Creates settings with the system's authorities, no client certificate, and the host of each
    /// endpoint as its name.
    pub fn new() -> Self {
        Tls::default()
    }

    /// Trusts the authorities in this PEM file instead of the system's. Can be called several
    /// times, also together with [`ca_pem`](Tls::ca_pem): all of them are trusted.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authorities.push(Source::File(path.into()));
        self
    }

    /// Trusts the authorities in this PEM text, like [`ca_file`](Tls::ca_file).
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities.push(Source::bytes(pem));
        self
    }

    /// Presents this certificate to servers that request one. The PEM file `cert` has the
    /// certificate, followed by intermediate certificates if there are any; `key` has its private
    /// key. Both may be the same file.
    ///
    /// If authentication is enabled, etcd uses the certificate's common name as the user, unless
    /// the client has a user name and password.
    pub fn client_cert_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((Source::File(cert.into()), Source::File(key.into())));
        self
    }

    /// Presents a certificate from PEM texts, like [`client_cert_files`](Tls::client_cert_files).
    /// The key is erased from memory with the last clone of this value and of the client; the
    /// signing library keeps its own copy.
    pub fn client_cert_pem(mut self, cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((Source::bytes(cert), Source::bytes(key)));
        self
    }

    /// Sets the name that the certificate of every server must be valid for, instead of the host of
    /// its endpoint: a DNS name or an IP address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the name that the certificate of one endpoint must be valid for. `endpoint` is written
    /// as it is given to the client. It overrides [`server_name`](Tls::server_name).
    pub fn server_name_for(mut self, endpoint: impl Into<String>, name: impl Into<String>) -> Self {
        self.names.push((endpoint.into(), name.into()));
        self
    }
}

/// Omits keys and everything else that was given as bytes.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "{path:?}"),
            Source::Bytes(bytes) => write!(f, "({} bytes of PEM)", bytes.len()),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities)
            .field("client_cert", &self.identity.as_ref().map(|(cert, _)| cert))
            .field("server_name", &self.name)
            .field("server_names", &self.names)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Tls;

    #[test]
    fn debug_output_contains_no_keys() {
        let tls = Tls::new()
            .ca_pem("CANARY authority")
            .client_cert_pem("CANARY certificate", "CANARY key");
        let text = format!("{tls:?} {tls:#?}");
        assert!(
            !text.contains("CANARY") && text.contains("16 bytes"),
            "{text}"
        );
    }
}

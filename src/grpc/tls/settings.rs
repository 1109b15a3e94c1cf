//! What a user says about TLS.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

/// How to make sure who a server is, and how to show who we are: given to
/// [`ClientBuilder::tls`](crate::ClientBuilder::tls).
///
/// It describes and does nothing: files are read by [`connect`](crate::ClientBuilder::connect), where
/// mistakes show, and again for every connection that is made later. A certificate that is replaced
/// on disk is used by the next connection; nothing has to be restarted. A pair that does not fit,
/// because one file is replaced and the other not yet, is read again for a fifth of a second.
///
/// | what | rule |
/// |---|---|
/// | versions | TLS 1.2 and 1.3, HTTP/2 by ALPN |
/// | authorities | those given; without any, the system's (read once, by `connect`) |
/// | files | PEM, in any order and with anything between; a section that cannot be read is an error with its number and line |
/// | server name | the host of each endpoint, a DNS name or an address; for `unixs:` the file's name |
/// | client certificate | only if given; PEM, with a PKCS #8, PKCS #1 or SEC1 key that is not encrypted |
/// | never | an unverified server, a connection in the clear instead, session resumption |
///
/// What a server's certificate fails by, or ours at the server, is an error of the kind
/// [`Tls`](crate::ErrorKind::Tls), at once, with the file, the endpoint and the reason.
///
/// The cryptography is ring's, or aws-lc's with the feature `tls-aws-lc`, which wins when both are on.
/// Nothing is installed for the whole process.
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
#[must_use = "it is a description: give it to ClientBuilder::tls"]
pub struct Tls {
    pub(super) authorities: Vec<Source>,
    pub(super) identity: Option<(Source, Source)>,
    pub(super) name: Option<String>,
    pub(super) names: Vec<(String, String)>,
}

/// Where certificates or a key come from.
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
    /// The system's authorities, no client certificate, each endpoint's own name.
    pub fn new() -> Self {
        Tls::default()
    }

    /// Trusts the authorities in this PEM file, and no longer the system's. May be given several
    /// times, together with [`ca_pem`](Tls::ca_pem): all of them are trusted.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authorities.push(Source::File(path.into()));
        self
    }

    /// Trusts the authorities in this PEM text, as [`ca_file`](Tls::ca_file).
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities.push(Source::bytes(pem));
        self
    }

    /// Shows this certificate to servers that ask for one: PEM files with the certificate, followed
    /// by intermediate ones if there are any, and with its private key. They may be one file.
    ///
    /// With authentication on, etcd takes the certificate's common name for the user, unless the
    /// client has a name and a password of its own.
    pub fn client_cert_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((Source::File(cert.into()), Source::File(key.into())));
        self
    }

    /// The same from PEM texts. The key is wiped from memory with the last clone of this value and
    /// of the client; the library that signs with it has a copy of its own.
    pub fn client_cert_pem(mut self, cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((Source::bytes(cert), Source::bytes(key)));
        self
    }

    /// The name that every server's certificate must be for, instead of its endpoint's host: a DNS
    /// name or an address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same for one endpoint, written as it is given to the client. It wins over
    /// [`server_name`](Tls::server_name).
    pub fn server_name_for(mut self, endpoint: impl Into<String>, name: impl Into<String>) -> Self {
        self.names.push((endpoint.into(), name.into()));
        self
    }
}

/// Never with a key, nor with anything else that was given as bytes.
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
    fn neither_keys_nor_bytes_are_printed() {
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

//! TLS for the server: its certificate, and the authority of the certificates of clients.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use zeroize::Zeroizing;

use super::http::{Encryption, NotEncrypted, TimedSocket, Transport};
use crate::failure::Failure;
use crate::output::complain;

/// The first byte of a record that begins a handshake (RFC 8446, section 5.1). No method of HTTP begins with it.
const HANDSHAKE: u8 = 22;

/// The files that the flags name.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    /// Clients need a certificate of one of these authorities.
    pub(super) client_ca: Option<PathBuf>,
}

/// The contents of the files.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// Makes connections with TLS. The files are read again for each, so that certificates can be renewed.
pub(super) struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    contents: Contents,
    config: Arc<ServerConfig>,
    /// What was said last about files that cannot be used.
    said: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl Tls {
    /// Reads the files, so that what is wrong with them is said at the start.
    pub(super) fn read(files: TlsFiles) -> Result<Self, Failure> {
        let contents = files.read().map_err(Failure::Usage)?;
        let config = files.configure(&contents).map_err(Failure::Usage)?;
        let current = Mutex::new(Current {
            contents,
            config,
            said: None,
        });
        Ok(Tls { files, current })
    }

    /// The settings of the present files, or the last good ones.
    fn config(&self) -> Arc<ServerConfig> {
        // Without the lock: a file may be on a network file system that does not answer.
        let read = self.files.read();
        let mut current = self.current.lock();
        let renewed = match read {
            Ok(contents) if contents == current.contents => {
                current.said = None;
                return Arc::clone(&current.config);
            }
            Ok(contents) => self.files.configure(&contents).map(|new| (contents, new)),
            Err(error) => Err(error),
        };
        match renewed {
            Ok((contents, config)) => {
                current.contents = contents;
                current.config = config;
                current.said = None;
            }
            Err(error) if current.said.as_ref() == Some(&error) => {}
            Err(error) => {
                complain(format_args!("{error}; the files of before stay in use"));
                current.said = Some(error);
            }
        }
        Arc::clone(&current.config)
    }
}

impl Encryption for Tls {
    fn handshake(&self, mut socket: TimedSocket) -> Result<Box<dyn Transport>, NotEncrypted> {
        match socket.peek() {
            Ok(Some(HANDSHAKE)) => {}
            Ok(Some(_)) => return Err(NotEncrypted::Plain(socket)),
            Ok(None) | Err(_) => return Err(NotEncrypted::Failed(socket)),
        }
        let Ok(mut connection) = ServerConnection::new(self.config()) else {
            return Err(NotEncrypted::Failed(socket));
        };
        while connection.is_handshaking() {
            // It sends an alert that says what is wrong, such as that a certificate is required.
            if connection.complete_io(&mut socket).is_err() {
                return Err(NotEncrypted::Failed(socket));
            }
        }
        Ok(Box::new(Encrypted(StreamOwned::new(connection, socket))))
    }
}

/// A connection after its handshake.
struct Encrypted(StreamOwned<ServerConnection, TimedSocket>);

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encrypted").field(&self.0.sock).finish()
    }
}

impl Read for Encrypted {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Encrypted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Transport for Encrypted {
    fn socket(&mut self) -> &mut TimedSocket {
        &mut self.0.sock
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Contents, String> {
        let read = |flag: &str, path: &PathBuf| {
            fs::read(path).map_err(|error| format!("{flag} {}: {error}", path.display()))
        };
        Ok(Contents {
            cert: read("--tls-cert", &self.cert)?,
            key: Zeroizing::new(read("--tls-key", &self.key)?),
            client_ca: self
                .client_ca
                .as_ref()
                .map(|path| read("--tls-client-ca", path))
                .transpose()?,
        })
    }

    fn configure(&self, contents: &Contents) -> Result<Arc<ServerConfig>, String> {
        let provider = Arc::new(provider());
        let chain = certificates(&contents.cert)
            .map_err(|reason| format!("--tls-cert {}: {reason}", self.cert.display()))?;
        // The error of a key must not contain a part of the key.
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| {
            let path = self.key.display();
            format!(
                "--tls-key {path}: it has no private key in PEM (PKCS #8, PKCS #1 or SEC1, not encrypted)"
            )
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?;
        let builder = match (&self.client_ca, &contents.client_ca) {
            (Some(path), Some(pem)) => {
                let wrong =
                    |reason: String| format!("--tls-client-ca {}: {reason}", path.display());
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem).map_err(wrong)? {
                    roots
                        .add(certificate)
                        .map_err(|error| wrong(error.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| wrong(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let (cert, key) = (self.cert.display(), self.key.display());
            format!("--tls-cert {cert}, --tls-key {key}: {error}")
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A session that is resumed is not verified again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// The certificates of a file, at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = read.map_err(|error| format!("malformed: {error}"))?;
    match found.is_empty() {
        true => Err("it has no certificate in PEM".into()),
        false => Ok(found),
    }
}

#[cfg(feature = "tls-aws-lc")]
fn provider() -> CryptoProvider {
    tokio_rustls::rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(not(feature = "tls-aws-lc"))]
fn provider() -> CryptoProvider {
    tokio_rustls::rustls::crypto::ring::default_provider()
}

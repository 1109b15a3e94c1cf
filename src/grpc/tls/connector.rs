//! Makes TLS connections. Certificate and key files are read again for each connection.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ClientConfig, InconsistentKeys, RootCertStore};
use zeroize::Zeroizing;

use super::material::{self, Certificate, Named};
use super::reason::{NO_HTTP2, reason};
use super::settings::{Source, Tls};
use super::stream::{Stream, rustls_error};
use super::verifier::ExplainingVerifier;
use crate::error::{Error, Result};
use crate::grpc::connect::connect_error::{ConnectError, describe_io};
use crate::grpc::connect::endpoint::Endpoint;
use crate::grpc::connect::single_flight::SingleFlight;

/// How often, and how far apart, files are read that do not match: a certificate and its key cannot
/// be replaced in one step.
const MAX_READS: u32 = 3;
const BETWEEN_READS: Duration = Duration::from_millis(100);

/// Makes TLS connections.
pub(crate) struct Connector {
    tls: Tls,
    /// The system's certificate authorities, when no others are given.
    system: Option<Arc<RootCertStore>>,
    current: Mutex<Current>,
    /// The running read of the files: one at a time, even if it hangs.
    reading: Arc<SingleFlight<(), Result<Arc<ClientConfig>, String>>>,
}

/// The last files that were read, and the configuration made from them.
struct Current {
    read: Material,
    config: Arc<ClientConfig>,
}

/// The content of every source, in their order.
#[derive(PartialEq)]
struct Material {
    authorities: Vec<Pem>,
    identity: Option<(Pem, Pem)>,
}

type Pem = Zeroizing<Vec<u8>>;

impl Connector {
    /// Reads all sources once, so that errors are found before anything is sent.
    pub(crate) fn new(tls: Tls, endpoints: &[Endpoint]) -> Result<Self> {
        let system = match tls.authorities.is_empty() {
            true => Some(Arc::new(system_roots().map_err(Error::invalid)?)),
            false => None,
        };
        for (text, _) in &tls.names {
            let named = Endpoint::parse(text, true)?;
            if !endpoints.iter().any(|one| one.text == named.text) {
                return Err(Error::invalid(format!(
                    "a server name is set for {text}, which is not an endpoint of this client"
                )));
            }
        }
        for endpoint in endpoints {
            server_name(&tls, endpoint).map_err(Error::invalid)?;
        }
        let read = read_sources(&tls).map_err(Error::invalid)?;
        let config = configure(&tls, system.as_deref(), &read).map_err(Error::invalid)?;
        Ok(Connector {
            tls,
            system,
            current: Mutex::new(Current { read, config }),
            reading: SingleFlight::new("etcd-tls-files"),
        })
    }

    /// Runs the TLS handshake on `io` with the current content of the files.
    pub(crate) async fn connect<S>(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        io: S,
    ) -> Result<Stream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = server_name(&self.tls, endpoint).map_err(ConnectError::tls)?;
        let config = self.config().await.map_err(ConnectError::tls)?;
        let connected = TlsConnector::from(config).connect(name, io).await;
        let stream = connected.map_err(|error| {
            let reason = rustls_error(&error).and_then(|error| reason(error, &self.tls));
            match reason {
                Some(reason) => ConnectError::tls(reason),
                None => ConnectError {
                    text: format!("during the TLS handshake: {}", describe_io(&error)),
                    ..ConnectError::of_io(&error)
                },
            }
        })?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Ok(Stream::new(stream, self.tls.clone())),
            _ => Err(ConnectError::tls(NO_HTTP2)),
        }
    }

    async fn config(self: &Arc<Self>) -> Result<Arc<ClientConfig>, String> {
        let identity = self.tls.identity.iter();
        let mut sources = identity
            .flat_map(|(cert, key)| [cert, key])
            .chain(&self.tls.authorities);
        if !sources.any(Source::is_file) {
            return Ok(Arc::clone(&self.current.lock().config));
        }
        // Runs on another thread: a file may be on a network file system that does not respond.
        let this = Arc::clone(self);
        let reading = self.reading.run((), move || this.read_again());
        reading.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn read_again(&self) -> Result<Arc<ClientConfig>, String> {
        let mut reads = 1;
        loop {
            let result = read_sources(&self.tls).and_then(|read| self.use_files(read));
            if result.is_ok() || reads == MAX_READS {
                return result;
            }
            reads += 1;
            thread::sleep(BETWEEN_READS);
        }
    }

    fn use_files(&self, read: Material) -> Result<Arc<ClientConfig>, String> {
        let mut current = self.current.lock();
        if current.read != read {
            let config = configure(&self.tls, self.system.as_deref(), &read)?;
            *current = Current { read, config };
        }
        Ok(Arc::clone(&current.config))
    }
}

/// Omits the content of the files.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.tls).finish()
    }
}

fn read_sources(tls: &Tls) -> Result<Material, String> {
    let authorities = tls.authorities.iter();
    let identity = tls.identity.as_ref().map(|(cert, key)| {
        let cert = material::read(&certificate(cert))?;
        Ok::<_, String>((cert, material::read(&private_key(key))?))
    });
    Ok(Material {
        authorities: authorities
            .map(|source| material::read(&authority(source)))
            .collect::<Result<_, _>>()?,
        identity: identity.transpose()?,
    })
}

fn configure(
    tls: &Tls,
    system: Option<&RootCertStore>,
    read: &Material,
) -> Result<Arc<ClientConfig>, String> {
    let roots = match system {
        Some(system) => system.clone(),
        None => {
            let mut roots = RootCertStore::empty();
            for (source, pem) in tls.authorities.iter().zip(&read.authorities) {
                material::add_authorities(&mut roots, &authority(source), pem)?;
            }
            roots
        }
    };
    let provider = Arc::new(provider());
    let verifier = ExplainingVerifier::new(roots, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        // The verifier accepts and rejects like the default one; only its error texts differ.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&tls.identity, &read.identity) {
        (Some((cert, key)), Some((cert_pem, key_pem))) => {
            let (cert, key) = (certificate(cert), private_key(key));
            let chain = material::chain(&cert, cert_pem)?;
            let private = material::key(&key, key_pem)?;
            let own = pair(&cert, chain, &key, private, &provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session is not verified again, on either side. Connections are rare enough.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Checks that a certificate and a key match.
fn pair(
    cert: &Named<'_>,
    chain: Vec<Certificate>,
    key: &Named<'_>,
    private: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let signing = provider.key_provider.load_private_key(private);
    let signing = signing.map_err(|_| {
        format!(
            "{key}: it is malformed or of an unsupported kind; supported are RSA of 2048 to 8192 bits, \
             ECDSA on P-256 or P-384, and Ed25519"
        )
    })?;
    let matches_key = |chain: Vec<CertificateDer<'static>>| {
        let pair = CertifiedKey::new(chain, Arc::clone(&signing));
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
            Err(error) => Err(error),
        }
    };
    let whole = chain.iter().map(|one| one.der.clone()).collect();
    matches_key(whole).map_err(|error| {
        if !matches!(error, rustls::Error::InconsistentKeys(_)) {
            let first = chain.first().map(|one| one.position.to_string());
            let first = first.unwrap_or_default();
            return format!("{cert}: {first} is not an X.509 v3 certificate");
        }
        let other = chain
            .iter()
            .find(|one| matches_key(vec![one.der.clone()]).is_ok());
        match other {
            Some(own) => format!(
                "{cert}: {} matches {key}, but is not the first: put the client's own \
                 certificate before those of its authorities",
                own.position
            ),
            None => {
                format!("{cert} and {key} do not match: the key belongs to another certificate")
            }
        }
    })
}

fn server_name(tls: &Tls, endpoint: &Endpoint) -> Result<ServerName<'static>, String> {
    let own = |(text, _): &&(String, String)| {
        Endpoint::parse(text, true).is_ok_and(|named| named.text == endpoint.text)
    };
    let named = tls.names.iter().rev().find(own).map(|(_, name)| name);
    let name = match named.or(tls.name.as_ref()) {
        Some(name) => name.as_str(),
        None => endpoint.host(),
    };
    ServerName::try_from(name)
        .map(|name| name.to_owned())
        .map_err(|_| {
            let endpoint = &endpoint.text;
            format!("{endpoint}: {name:?} is neither a DNS name nor an IP address")
        })
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // System stores may contain malformed roots; the other roots are used.
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let why = match found.errors.first() {
        Some(error) => format!(" ({error})"),
        None => String::new(),
    };
    Err(format!(
        "this system has no certificate authorities{why}: set yours with Tls::ca_file"
    ))
}

#[cfg(feature = "tls-aws-lc")]
fn provider() -> CryptoProvider {
    tokio_rustls::rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(not(feature = "tls-aws-lc"))]
fn provider() -> CryptoProvider {
    tokio_rustls::rustls::crypto::ring::default_provider()
}

fn authority(source: &Source) -> Named<'_> {
    Named(source, "CA file")
}

fn certificate(source: &Source) -> Named<'_> {
    Named(source, "client certificate")
}

fn private_key(source: &Source) -> Named<'_> {
    Named(source, "private key")
}

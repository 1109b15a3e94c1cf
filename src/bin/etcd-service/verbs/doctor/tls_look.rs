//! Reads the certificate of a server, valid or not, to tell what is wrong with it.
//!
//! Nothing is decided by it and no secret is sent: the client of the library verifies certificates, and does so for
//! every request.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

use super::certificate::{Certificate, of_der};
use super::identity::Identity;

/// Performs a handshake, and stores the certificate of the server, also if the handshake fails.
pub(super) fn handshake(
    mut stream: TcpStream,
    host: &str,
    identity: Option<&Identity>,
    certificate: &mut Option<Certificate>,
) -> io::Result<impl Read + Write + use<>> {
    let provider = Arc::new(provider());
    let reader = Arc::new(CertificateReader {
        seen: Mutex::new(None),
        provider: Arc::clone(&provider),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&reader) as Arc<dyn ServerCertVerifier>);
    let mut config = match identity.and_then(read) {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(io::Error::other)?,
        None => builder.with_no_client_auth(),
    };
    // HTTP/1, because that has the time of the server.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other);
    let mut connection = connection?;
    let mut done = Ok((0, 0));
    while connection.is_handshaking() && done.is_ok() {
        done = connection.complete_io(&mut stream);
    }
    let seen = reader.seen.lock().unwrap_or_else(PoisonError::into_inner);
    *certificate = seen.as_deref().and_then(of_der);
    drop(seen);
    done?;
    Ok(StreamOwned::new(connection, stream))
}

fn read(identity: &Identity) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(&identity.cert).ok()?;
    let chain = chain.collect::<Result<Vec<_>, _>>().ok()?;
    Some((chain, PrivateKeyDer::from_pem_file(&identity.key).ok()?))
}

#[cfg(feature = "tls-aws-lc")]
fn provider() -> CryptoProvider {
    tokio_rustls::rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(not(feature = "tls-aws-lc"))]
fn provider() -> CryptoProvider {
    tokio_rustls::rustls::crypto::ring::default_provider()
}

/// Keeps the certificate of a server, and accepts it.
#[derive(Debug)]
struct CertificateReader {
    seen: Mutex<Option<Vec<u8>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for CertificateReader {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _issuers: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(own.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _own: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _own: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

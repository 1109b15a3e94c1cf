//! Verifies servers like rustls, with more specific errors.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::x509::{self, AltName, Key, Weakness};
use crate::error::printable;

/// Delegates each decision to rustls' own verifier, and changes only the text of an error.
#[derive(Debug)]
pub(super) struct ExplainingVerifier {
    inner: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
}

/// The cause of a rejected certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Explanation {
    /// The server's own certificate is that of an authority.
    Authority,
    /// The server's own certificate has a key that is not accepted.
    ServerKey(Weakness),
    /// The certificate of an issuing authority has a key that is not accepted.
    IssuerKey(Weakness),
    /// The server's certificate has these names, and not the expected one.
    Name {
        expected: String,
        is_address: bool,
        names: Vec<AltName>,
    },
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Explanation::Authority => f.write_str(
                "the server's certificate is that of an authority (CA:TRUE), as `openssl req -x509` \
                 makes by default: issue a server certificate, or add -addext \
                 basicConstraints=critical,CA:FALSE",
            ),
            Explanation::ServerKey(weakness) => write!(f, "the server's certificate has {weakness}"),
            Explanation::IssuerKey(weakness) => {
                write!(f, "an authority of the server's certificate has {weakness}")
            }
            Explanation::Name {
                expected,
                is_address,
                names,
            } => f.write_str(&wrong_name(expected, *is_address, names)),
        }
    }
}

impl std::error::Error for Explanation {}

fn wrong_name(expected: &str, is_address: bool, names: &[AltName]) -> String {
    let kind = if is_address { "IP" } else { "DNS" };
    if names.is_empty() {
        return format!(
            "the server's certificate has no subject alternative name, and the \
             common name is not used: reissue it with subjectAltName={kind}:{expected}"
        );
    }
    if is_address && names.contains(&AltName::Dns(expected.to_owned())) {
        return format!(
            "the server's certificate has {expected} as a DNS name, but an IP \
             address has to be an IP name: reissue it with subjectAltName=IP:{expected}"
        );
    }
    let names: Vec<String> = names.iter().map(AltName::to_string).collect();
    let names = printable(&names.join(", "));
    format!(
        "the server's certificate is for {names}, not for {expected}: connect by one of its names, or \
         give it with Tls::server_name"
    )
}

impl ExplainingVerifier {
    pub(super) fn new(
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, String> {
        let roots = Arc::new(roots);
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider)
            .build()
            .map_err(|error| format!("TLS: {error}"))?;
        Ok(Arc::new(ExplainingVerifier { inner, roots }))
    }

    fn explain(
        &self,
        error: Error,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
    ) -> Error {
        let roots = self.roots.roots.iter();
        let roots = roots.filter_map(|root| x509::key(&root.subject_public_key_info));
        let issuers = issuers.iter().filter_map(|issuer| x509::facts(issuer));
        let keys = issuers.map(|facts| facts.key).chain(roots);
        match explanation(&error, own, keys) {
            Some(why) => {
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
            }
            None => error,
        }
    }
}

/// Explains only causes that rustls does not describe itself.
fn explanation(
    error: &Error,
    own: &[u8],
    issuers: impl IntoIterator<Item = Key>,
) -> Option<Explanation> {
    let facts = x509::facts(own)?;
    #[allow(deprecated, reason = "a provider may still say it in the old way")]
    match error {
        Error::InvalidCertificate(
            CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithm
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => {
            let of_issuers = || issuers.into_iter().find_map(Key::weakness);
            let own = facts.key.weakness().map(Explanation::ServerKey);
            own.or_else(|| of_issuers().map(Explanation::IssuerKey))
        }
        Error::InvalidCertificate(CertificateError::Other(_)) if facts.is_authority => {
            Some(Explanation::Authority)
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected, ..
        }) => Some(Explanation::Name {
            expected: expected.to_str().into_owned(),
            is_address: matches!(expected, ServerName::IpAddress(_)),
            names: x509::alt_names(own),
        }),
        _ => None,
    }
}

impl ServerCertVerifier for ExplainingVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.inner.verify_server_cert(own, issuers, name, ocsp, now);
        verdict.map_err(|error| self.explain(error, own, issuers))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.inner.verify_tls12_signature(message, own, signed);
        verdict.map_err(|error| self.explain(error, own, &[]))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.inner.verify_tls13_signature(message, own, signed);
        verdict.map_err(|error| self.explain(error, own, &[]))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_for_another_name_is_explained_by_its_names() {
        let dns = |name: &str| AltName::Dns(name.to_owned());
        let cases = [
            (
                "db",
                false,
                vec![dns("a"), AltName::Ip([10, 0, 0, 1].into())],
                "the server's certificate is for a, 10.0.0.1, not for db: connect by one of its names, \
                 or give it with Tls::server_name",
            ),
            (
                "10.0.0.1",
                true,
                vec![dns("10.0.0.1")],
                "the server's certificate has 10.0.0.1 as a DNS name, but an IP \
                 address has to be an IP name: reissue it with subjectAltName=IP:10.0.0.1",
            ),
            (
                "db",
                false,
                vec![],
                "the server's certificate has no subject alternative name, and the \
                 common name is not used: reissue it with subjectAltName=DNS:db",
            ),
        ];
        for (expected, is_address, names, text) in cases {
            let explanation = Explanation::Name {
                expected: expected.to_owned(),
                is_address,
                names,
            };
            assert_eq!(explanation.to_string(), text);
        }
    }
}

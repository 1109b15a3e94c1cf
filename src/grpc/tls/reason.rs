//! Describes why a TLS handshake failed, and what to check.

use std::time::Duration;

use tokio_rustls::rustls::{
    AlertDescription, CertificateError, Error, OtherError, PeerIncompatible,
};

use super::material::Named;
use super::settings::Tls;
use super::verifier::Explanation;

/// The reason of a rustls error; `None` when the error may be temporary.
pub(super) fn reason(error: &Error, tls: &Tls) -> Option<String> {
    Some(match error {
        Error::InvalidCertificate(error) => certificate(error, tls),
        Error::AlertReceived(alert) => return refused(*alert, tls),
        Error::InvalidMessage(_) => "the server does not answer with TLS".into(),
        Error::NoApplicationProtocol => NO_HTTP2.into(),
        Error::PeerIncompatible(why) => incompatible(why).into(),
        Error::PeerMisbehaved(_) | Error::InappropriateMessage { .. } => {
            "the server violates the TLS protocol".into()
        }
        Error::InappropriateHandshakeMessage { .. } => {
            "the server violates the TLS protocol".into()
        }
        Error::DecryptError => "the messages of the server cannot be decrypted".into(),
        error => format!("TLS failed: {error}"),
    })
}

pub(super) const NO_HTTP2: &str = "the server does not offer HTTP/2 over TLS (ALPN h2)";

fn incompatible(why: &PeerIncompatible) -> &'static str {
    use PeerIncompatible::*;

    match why {
        ServerDoesNotSupportTls12Or13 | ServerTlsVersionIsDisabledByOurConfig => {
            "the server supports neither TLS 1.2 nor TLS 1.3"
        }
        NoCertificateRequestSignatureSchemesInCommon => {
            "the server accepts no signature that the client certificate's key can make"
        }
        _ => "the server and the client share no ciphers, key exchange or signatures",
    }
}

fn certificate(error: &CertificateError, tls: &Tls) -> String {
    use CertificateError::*;

    match error {
        Expired => "the server's certificate expired".into(),
        ExpiredContext { time, not_after } => {
            let since = time.as_secs().saturating_sub(not_after.as_secs());
            let since = rounded(since);
            format!("the server's certificate expired {since} ago: renew it, or check the clock")
        }
        NotValidYet => "the server's certificate is not valid yet: check the clocks".into(),
        NotValidYetContext { time, not_before } => {
            let until = not_before.as_secs().saturating_sub(time.as_secs());
            let until = rounded(until);
            format!("the server's certificate is not valid yet, but in {until}: check the clocks")
        }
        UnknownIssuer => unknown_issuer(tls),
        BadSignature => format!(
            "{}: one of them has the name of its issuer, but another key",
            unknown_issuer(tls)
        ),
        NotValidForName | NotValidForNameContext { .. } => {
            "the server's certificate is for another name".into()
        }
        Revoked => "the server's certificate is revoked".into(),
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "the server's certificate is not meant for servers: its extended key usage needs \
             serverAuth"
                .into()
        }
        BadEncoding => "the server's certificate is malformed, or not X.509 v3".into(),
        UnhandledCriticalExtension => {
            "the server's certificate has an unknown critical extension".into()
        }
        UnsupportedSignatureAlgorithmContext { .. }
        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the server's certificate is signed with an algorithm that is not supported; \
             supported are RSA with SHA-2, ECDSA on P-256 or P-384, and Ed25519"
                .into()
        }
        Other(OtherError(why)) => match why.downcast_ref::<Explanation>() {
            Some(why) => why.to_string(),
            None => "the server's certificate breaks a rule of X.509".into(),
        },
        _ => "the server's certificate is not acceptable".into(),
    }
}

fn unknown_issuer(tls: &Tls) -> String {
    let trusted: Vec<String> = tls
        .authorities
        .iter()
        .map(|source| Named(source, "CA file").to_string())
        .collect();
    let trusted = match trusted.is_empty() {
        true => "that this system trusts".to_owned(),
        false => format!("in {}", trusted.join(", ")),
    };
    format!("the server's certificate is not signed by an authority {trusted}")
}

/// A server sends only this alert, also when its certificate has a kind of key that the client
/// cannot verify.
const NOTHING_IN_COMMON: &str = "the server and the client have nothing in common: its key may be of a \
    kind that this build cannot verify (ECDSA on P-521 needs the feature tls-aws-lc; use P-256, P-384, \
    Ed25519, or RSA of at least 2048 bits), or its ciphers may be older than those of TLS 1.2 with ECDHE";

/// The reason of an alert from the server. In TLS 1.3 it arrives only after the handshake.
fn refused(alert: AlertDescription, tls: &Tls) -> Option<String> {
    use AlertDescription::*;

    let why = match alert {
        // Caused by the server, not by certificates: it may be temporary.
        CloseNotify | UserCanceled | InternalError => return None,
        ProtocolVersion => return Some("the server and the client share no TLS version".into()),
        NoApplicationProtocol => return Some(NO_HTTP2.into()),
        UnrecognisedName => {
            return Some("the server has no certificate for the requested server name".into());
        }
        CertificateExpired => "it expired",
        UnknownCA => "the server does not trust its issuer",
        CertificateRevoked => "it is revoked",
        UnsupportedCertificate => "it is of an unsupported kind",
        CertificateRequired | NoCertificate => "the server does not accept it as a certificate",
        DecryptError => "its signature does not verify",
        AccessDenied | CertificateUnknown | BadCertificate => "the server does not accept it",
        HandshakeFailure => return Some(NOTHING_IN_COMMON.into()),
        other => {
            return Some(format!(
                "the server refused TLS with the alert {}",
                u8::from(other)
            ));
        }
    };
    Some(match &tls.identity {
        Some((cert, _)) => {
            let cert = Named(cert, "client certificate");
            format!("the server refused the {cert}: {why}")
        }
        None => "the server requires a client certificate, and none is set".into(),
    })
}

fn rounded(seconds: u64) -> String {
    match seconds {
        0..3_600 => format!("{:?}", Duration::from_secs(seconds)),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::pki_types::UnixTime;

    use super::*;

    fn secs(n: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(n))
    }

    #[test]
    fn a_certificate_error_names_the_cause_and_the_file() {
        let tls = Tls::new().ca_file("/etc/ca.pem");
        let cases = [
            (
                CertificateError::ExpiredContext {
                    time: secs(1_000_000),
                    not_after: secs(1_000_000 - 3 * 86_400),
                },
                "the server's certificate expired 3 days ago: renew it, or check the clock",
            ),
            (
                CertificateError::UnknownIssuer,
                "the server's certificate is not signed by an authority in CA file /etc/ca.pem",
            ),
        ];
        for (error, text) in cases {
            let found = reason(&Error::InvalidCertificate(error), &tls);
            assert_eq!(found.as_deref(), Some(text));
        }
    }

    #[test]
    fn an_alert_of_the_server_names_the_client_certificate_or_its_absence() {
        let alert = Error::AlertReceived(AlertDescription::CertificateExpired);
        let with = Tls::new().client_cert_files("c.pem", "c.key");
        assert_eq!(
            reason(&alert, &with).as_deref(),
            Some("the server refused the client certificate c.pem: it expired")
        );
        let alert = Error::AlertReceived(AlertDescription::CertificateRequired);
        assert!(reason(&alert, &Tls::new()).unwrap().contains("none is set"));
    }

    #[test]
    fn an_internal_error_of_the_server_is_temporary() {
        let alert = Error::AlertReceived(AlertDescription::InternalError);
        assert_eq!(reason(&alert, &Tls::new()), None);
    }
}

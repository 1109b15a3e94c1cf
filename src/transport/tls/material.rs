//! Certificates and keys: from where they are to what rustls takes, or the reason why not.

use std::fmt;
use std::fs::File;
use std::io::Read;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::settings::Source;

/// No bundle of certificates is as large; what is larger is something else.
const LARGEST: u64 = 16 << 20;

/// The name of a source in errors.
pub(super) struct Named<'a>(pub(super) &'a Source, pub(super) &'static str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Source::File(path) => write!(f, "{} {}", self.1, path.display()),
            Source::Bytes(_) => write!(f, "the {} given as PEM text", self.1),
        }
    }
}

pub(super) fn read(named: &Named<'_>) -> Result<Zeroizing<Vec<u8>>, String> {
    let path = match named.0 {
        Source::Bytes(bytes) => return Ok(Zeroizing::clone(bytes)),
        Source::File(path) => path,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(LARGEST).read_to_end(&mut bytes))
        .map_err(|error| format!("{named}: {error}"))?;
    Ok(bytes)
}

pub(super) fn chain(named: &Named<'_>, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(named, &error))?;
    if chain.is_empty() {
        return Err(match pem.is_empty() {
            true => format!("{named}: it is empty"),
            false => format!("{named}: there is no certificate in it (PEM is expected)"),
        });
    }
    Ok(chain)
}

pub(super) fn add_authorities(
    roots: &mut RootCertStore,
    named: &Named<'_>,
    pem: &[u8],
) -> Result<(), String> {
    for certificate in chain(named, pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{named}: not an X.509 v3 certificate: {error}"))?;
    }
    Ok(())
}

pub(super) fn key(named: &Named<'_>, pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let encrypted = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
        match error {
            _ if pem.is_empty() => format!("{named}: it is empty"),
            _ if encrypted(b"ENCRYPTED PRIVATE KEY") || encrypted(b"Proc-Type: 4,ENCRYPTED") => {
                format!("{named}: it is encrypted, and there is no password to give: decrypt it")
            }
            PemError::NoItemsFound => {
                format!("{named}: there is no private key in it (PEM is expected)")
            }
            error => malformed(named, &error),
        }
    })
}

/// Never with a piece of what is malformed: it may be of a key.
fn malformed(named: &Named<'_>, error: &PemError) -> String {
    let reason = match error {
        PemError::MissingSectionEnd { .. } => "a section of it has no end",
        PemError::IllegalSectionStart { .. } => "a section of it begins wrongly",
        PemError::Base64Decode(_) => "it is not Base64",
        _ => "it is not PEM",
    };
    format!("{named}: malformed: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Source {
        Source::File("/etc/key.pem".into())
    }

    fn pem(label: &str, body: &str) -> Vec<u8> {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").into_bytes()
    }

    #[test]
    fn keys_of_every_kind_are_taken_also_behind_parameters() {
        let source = named();
        let read = |pem: &[u8]| key(&Named(&source, "private key"), pem);
        assert!(matches!(
            read(&pem("PRIVATE KEY", "AAAA")),
            Ok(PrivateKeyDer::Pkcs8(_))
        ));
        assert!(matches!(
            read(&pem("RSA PRIVATE KEY", "AAAA")),
            Ok(PrivateKeyDer::Pkcs1(_))
        ));
        let mut sec1 = pem("EC PARAMETERS", "AAAA");
        sec1.extend(pem("EC PRIVATE KEY", "AAAA"));
        assert!(matches!(read(&sec1), Ok(PrivateKeyDer::Sec1(_))));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_content() {
        let source = named();
        let refused = |pem: &[u8]| key(&Named(&source, "private key"), pem).unwrap_err();
        for (pem, reason) in [
            (Vec::new(), "empty"),
            (b"CANARY".to_vec(), "no private key"),
            (pem("CERTIFICATE", "AAAA"), "no private key"),
            (pem("ENCRYPTED PRIVATE KEY", "AAAA"), "encrypted"),
            (pem("PRIVATE KEY", "CANARY!"), "Base64"),
            (b"-----BEGIN PRIVATE KEY-----\nCANARY\n".to_vec(), "no end"),
        ] {
            let error = refused(&pem);
            assert!(error.starts_with("private key /etc/key.pem: "), "{error}");
            assert!(
                error.contains(reason) && !error.contains("CANARY"),
                "{error}"
            );
        }
    }
}

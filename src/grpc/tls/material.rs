//! Reads certificates and keys from PEM sources.

use std::fmt;
use std::fs::File;
use std::io::Read;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::pem::{self, Position, Section};
use super::settings::Source;

/// The largest file that is read. Certificate bundles are much smaller.
const LARGEST: u64 = 16 << 20;

/// A source with the name that errors use.
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

/// A certificate and its position in the source.
pub(super) struct Certificate {
    pub(super) position: Position,
    pub(super) der: CertificateDer<'static>,
}

/// Returns all certificates of a source, in their order. Other sections are skipped, because
/// bundles may contain them.
pub(super) fn chain(named: &Named<'_>, pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let sections = sections(named, pem)?;
    let mut chain = Vec::new();
    for section in &sections {
        match section.label {
            // The second label is an older name of the first.
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                let read = CertificateDer::from_pem_slice(&section.text("CERTIFICATE"));
                let der = read.map_err(|error| malformed(named, section, &error))?;
                let position = section.position.clone();
                chain.push(Certificate { position, der });
            }
            // These sections contain certificates, so skipping them silently would hide an error.
            "TRUSTED CERTIFICATE" => {
                let cure = "`openssl x509 -in FILE` converts it";
                return Err(format!(
                    "{named}: {} is in OpenSSL's own format: {cure}",
                    section.position
                ));
            }
            "PKCS7" | "CMS" => {
                let cure = "`openssl pkcs7 -print_certs -in FILE` takes its certificates out";
                return Err(format!(
                    "{named}: {} is a container: {cure}",
                    section.position
                ));
            }
            _ => {}
        }
    }
    match chain.is_empty() {
        true => Err(format!(
            "{named}: there is no certificate in it{}",
            instead(&sections)
        )),
        false => Ok(chain),
    }
}

pub(super) fn add_authorities(
    roots: &mut RootCertStore,
    named: &Named<'_>,
    pem: &[u8],
) -> Result<(), String> {
    for Certificate { position, der } in chain(named, pem)? {
        roots
            .add(der)
            .map_err(|_| format!("{named}: {position} is not an X.509 v3 certificate"))?;
    }
    Ok(())
}

pub(super) fn key(named: &Named<'_>, pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    const KEYS: &[&str] = &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

    let sections = sections(named, pem)?;
    let keys = || sections.iter().filter(|one| KEYS.contains(&one.label));
    if let Some(section) = keys().find(|section| !section.is_encrypted()) {
        return PrivateKeyDer::from_pem_slice(&section.text(section.label))
            .map_err(|error| malformed(named, section, &error));
    }
    match sections.iter().find(|section| section.is_encrypted()) {
        Some(section) => Err(format!(
            "{named}: {} is encrypted, which is not supported: `openssl pkey -in FILE` \
             decrypts it",
            section.position
        )),
        None => Err(format!(
            "{named}: there is no private key in it{} (PKCS #8, PKCS #1 or SEC1 in PEM is expected)",
            instead(&sections)
        )),
    }
}

fn sections<'a>(named: &Named<'_>, pem: &'a [u8]) -> Result<Vec<Section<'a>>, String> {
    if pem.trim_ascii().is_empty() {
        return Err(format!("{named}: it is empty"));
    }
    pem::sections(pem).map_err(|why| format!("{named}: {why}"))
}

/// Describes the content that was found instead.
fn instead(sections: &[Section<'_>]) -> String {
    match sections {
        [] => ", and nothing else in PEM".into(),
        [section, ..] => format!(", but {}", section.position),
    }
}

/// Describes a malformed section without its content, which may be part of a key.
fn malformed(named: &Named<'_>, section: &Section<'_>, error: &PemError) -> String {
    let reason = match error {
        _ if section.has_escaped_lines() => "its line ends are written as the two characters \\n",
        PemError::Base64Decode(_) => "it is not Base64",
        _ => "it is not PEM",
    };
    format!("{named}: malformed: {}: {reason}", section.position)
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
    fn keys_of_every_kind_are_accepted_also_after_parameters() {
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
    fn the_error_of_a_key_does_not_contain_the_key() {
        let source = named();
        let refused = |pem: &[u8]| key(&Named(&source, "private key"), pem).unwrap_err();
        let old = "Proc-Type: 4,ENCRYPTED\nDEK-Info: CANARY\n\nCANARY";
        for (pem, reason) in [
            (Vec::new(), "it is empty"),
            (b" \n".to_vec(), "it is empty"),
            (b"CANARY".to_vec(), "no private key in it, and nothing else"),
            (
                pem("CERTIFICATE", "AAAA"),
                "no private key in it, but section 1 (CERTIFICATE, line 1)",
            ),
            (
                pem("EC PARAMETERS", "AAAA"),
                "but section 1 (EC PARAMETERS, line 1)",
            ),
            (pem("OPENSSH PRIVATE KEY", "CANARY"), "OPENSSH PRIVATE KEY"),
            (pem("ENCRYPTED PRIVATE KEY", "AAAA"), "openssl pkey"),
            (pem("RSA PRIVATE KEY", old), "is encrypted"),
            (pem("PRIVATE KEY", "CANARY!"), "it is not Base64"),
            (pem("PRIVATE KEY", r"\nCANARY\n"), r"two characters \n"),
            (b"-----BEGIN PRIVATE KEY-----\nCANARY\n".to_vec(), "no end"),
            (vec![0x30, 0x82, 0xff], "it is binary (DER"),
        ] {
            let error = refused(&pem);
            assert!(error.starts_with("private key /etc/key.pem: "), "{error}");
            assert!(
                error.contains(reason) && !error.contains("CANARY"),
                "{reason}: {error}"
            );
        }
    }

    #[test]
    fn all_certificates_are_accepted_or_the_invalid_one_is_named() {
        let source = named();
        let read = |pem: &[u8]| chain(&Named(&source, "CA file"), pem);
        let (good, key) = (pem("CERTIFICATE", "AAAA"), pem("PRIVATE KEY", "CANARY"));
        let two = [
            &b"\xef\xbb\xbf"[..],
            &good,
            &key,
            &pem("X509 CERTIFICATE", "AAAA"),
        ]
        .concat();
        assert_eq!(read(&two).ok().map(|chain| chain.len()), Some(2));
        for (pem, reason) in [
            (
                [&good[..], &pem("CERTIFICATE", "A!")].concat(),
                "section 2 (CERTIFICATE, line 4): it is not Base64",
            ),
            (
                [&good[..], &pem("TRUSTED CERTIFICATE", "AAAA")].concat(),
                "section 2 (TRUSTED CERTIFICATE, line 4) is in OpenSSL's own format",
            ),
            (pem("PKCS7", "AAAA"), "openssl pkcs7"),
            (
                key,
                "no certificate in it, but section 1 (PRIVATE KEY, line 1)",
            ),
            (
                pem("CERTIFICATE REQUEST", "AAAA"),
                "but section 1 (CERTIFICATE REQUEST, line 1)",
            ),
            (Vec::new(), "it is empty"),
        ] {
            let error = read(&pem).err().unwrap();
            assert!(
                error.contains(reason) && !error.contains("CANARY"),
                "{reason}: {error}"
            );
        }
        let mut roots = RootCertStore::empty();
        let error = add_authorities(&mut roots, &Named(&source, "CA file"), &good).unwrap_err();
        assert_eq!(
            error,
            "CA file /etc/key.pem: section 1 (CERTIFICATE, line 1) is not an X.509 v3 certificate"
        );
    }
}

//! Reads the facts that explain a rejected certificate: the kind of its key, whether it is an
//! authority, and its names.
//!
//! No decision depends on these facts. rustls verifies certificates, but does not report these
//! causes.

use std::fmt;
use std::net::IpAddr;

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// RSA, with this number of bits.
    Rsa(usize),
    /// ECDSA on the curve P-521.
    P521,
    /// Any other key.
    Other,
}

/// The facts read from a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) key: Key,
    /// The certificate declares itself an authority.
    pub(super) is_authority: bool,
}

/// The smallest RSA key that rustls accepts, in bits.
const LEAST_RSA: usize = 2048;

impl Key {
    /// Why signatures with this key are not accepted.
    pub(super) fn weakness(self) -> Option<Weakness> {
        match self {
            Key::Rsa(bits) if bits < LEAST_RSA => Some(Weakness::Short(bits)),
            Key::P521 => Some(Weakness::Curve),
            Key::Rsa(_) | Key::Other => None,
        }
    }
}

/// Why a key is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weakness {
    Short(usize),
    Curve,
}

/// Completes the sentence "it has ..." with the cause and the remedy.
impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weakness::Short(bits) => write!(
                f,
                "an RSA key of {bits} bits, and at least {LEAST_RSA} are required: reissue it with a longer key"
            ),
            Weakness::Curve => f.write_str(
                "an ECDSA key on the curve P-521, which this build cannot verify: reissue it with \
                 P-256 or P-384, or build with the feature tls-aws-lc",
            ),
        }
    }
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const INTEGER: u8 = 0x02;
const BOOLEAN: u8 = 0x01;
/// `[0]` and `[3]` of a certificate: its version and its extensions.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const SECP521R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// `[2]` and `[7]` of a subject alternative name: a DNS name and an IP address.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AltName {
    Dns(String),
    Ip(IpAddr),
}

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AltName::Dns(name) => f.write_str(name),
            AltName::Ip(address) => address.fmt(f),
        }
    }
}

/// Reads a certificate; `None` when the bytes are not one.
pub(super) fn facts(certificate: &[u8]) -> Option<Facts> {
    let mut tbs = fields(certificate)?;
    let key = key(tbs.expect(SEQUENCE)?)?;
    let is_authority = extension(tbs, BASIC_CONSTRAINTS).and_then(says_authority);
    Some(Facts {
        key,
        is_authority: is_authority.unwrap_or(false),
    })
}

/// Reads the DNS names and IP addresses of a certificate.
pub(super) fn alt_names(certificate: &[u8]) -> Vec<AltName> {
    let extension = || {
        let mut tbs = fields(certificate)?;
        tbs.expect(SEQUENCE)?;
        Some(Der(Der(extension(tbs, SUBJECT_ALT_NAME)?).expect(SEQUENCE)?))
    };
    let mut names = Vec::new();
    let mut elements = extension().unwrap_or(Der(&[]));
    while let Some((tag, content)) = elements.next() {
        names.extend(match tag {
            DNS_NAME => Some(AltName::Dns(String::from_utf8_lossy(content).into_owned())),
            IP_ADDRESS => address(content).map(AltName::Ip),
            _ => None,
        });
    }
    names
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

/// The fields of a certificate from its key on.
fn fields(certificate: &[u8]) -> Option<Der<'_>> {
    let mut all = Der(certificate);
    let mut all = Der(all.expect(SEQUENCE)?);
    let mut tbs = Der(all.expect(SEQUENCE)?);
    tbs.skip_if(VERSION);
    // The serial number and the signature algorithm.
    tbs.expect(INTEGER)?;
    tbs.expect(SEQUENCE)?;
    // The issuer, the validity and the subject.
    tbs.expect(SEQUENCE)?;
    tbs.expect(SEQUENCE)?;
    tbs.expect(SEQUENCE)?;
    Some(tbs)
}

/// Reads the content of a SubjectPublicKeyInfo.
pub(super) fn key(spki: &[u8]) -> Option<Key> {
    let mut spki = Der(spki);
    let mut algorithm = Der(spki.expect(SEQUENCE)?);
    let name = algorithm.expect(OID)?;
    if name == EC {
        let curve = algorithm.expect(OID);
        return Some(match curve == Some(SECP521R1) {
            true => Key::P521,
            false => Key::Other,
        });
    }
    if name != RSA {
        return Some(Key::Other);
    }
    // The first byte of a BIT STRING is the number of unused bits.
    let (_, bits) = spki.expect(BIT_STRING)?.split_first()?;
    let mut numbers = Der(Der(bits).expect(SEQUENCE)?);
    let modulus = numbers.expect(INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = modulus.get(zeros..)?;
    let unused = modulus.first()?.leading_zeros();
    Some(Key::Rsa(modulus.len() * 8 - usize::try_from(unused).ok()?))
}

/// The value of an extension, from the fields behind the key.
fn extension<'a>(mut fields: Der<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let mut content = None;
    while let Some((tag, field)) = fields.next() {
        if tag == EXTENSIONS {
            content = Some(field);
        }
    }
    let mut extensions = Der(Der(content?).expect(SEQUENCE)?);
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Der(extension);
        if extension.expect(OID)? == name {
            extension.skip_if(BOOLEAN);
            return extension.expect(OCTET_STRING);
        }
    }
    None
}

fn says_authority(basic_constraints: &[u8]) -> Option<bool> {
    let mut constraints = Der(Der(basic_constraints).expect(SEQUENCE)?);
    Some(matches!(constraints.next(), Some((BOOLEAN, [0xff]))))
}

/// A sequence of DER elements.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The tag and the content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The number of length bytes; a certificate has no element of 4 GiB.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
                let length = bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
                (usize::try_from(length).ok()?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, if it has this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|next| next.0 == tag).map(|next| next.1)
    }

    fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;

    use super::*;

    /// One of the certificates made by `tests/certs/make`.
    fn der(file: &str) -> CertificateDer<'static> {
        let file = format!("{}/tests/certs/{file}.pem", env!("CARGO_MANIFEST_DIR"));
        CertificateDer::from_pem_file(file).unwrap()
    }

    #[test]
    fn kinds_of_keys_and_authorities_are_distinguished() {
        let cases = [
            ("ca", Key::Other, true),
            ("p521", Key::P521, false),
            ("rsa1024", Key::Rsa(1024), false),
            ("under-rsa1024", Key::Other, false),
            ("x509-default", Key::Rsa(2048), true),
        ];
        for (file, key, is_authority) in cases {
            let expected = Facts { key, is_authority };
            assert_eq!(facts(&der(file)), Some(expected), "{file}");
        }
    }

    #[test]
    fn alternative_names_are_dns_names_and_addresses() {
        let made = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            let params = rcgen::CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
            let key = rcgen::KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap()
        };
        let dns = |name: &str| AltName::Dns(name.to_owned());
        let ip = |address: &str| AltName::Ip(address.parse().unwrap());
        let named = made(&["localhost", "*.db.example", "127.0.0.1", "::1"]);
        let expected = [
            dns("localhost"),
            dns("*.db.example"),
            ip("127.0.0.1"),
            ip("::1"),
        ];
        assert_eq!(alt_names(named.der()), expected);
        assert!(alt_names(made(&[]).der()).is_empty());
        for end in 0..named.der().len() {
            assert!(alt_names(&named.der()[..end]).is_empty());
        }
    }

    #[test]
    fn truncated_and_corrupt_certificates_are_none() {
        let der = der("rsa1024");
        for end in 0..der.len() {
            assert_eq!(facts(&der[..end]), None);
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = der.to_vec();
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
            let _ = (facts(&bytes), alt_names(&bytes));
        }
    }
}

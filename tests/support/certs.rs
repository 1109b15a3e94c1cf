//! Generated certificates: an authority and the certificates that it signs, as files in a private directory.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// Certificate authority with a directory for its own certificate and the certificates that it signs.
///
/// Dropping it removes the directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Contents of a certificate that [`Authority::sign`] creates.
#[derive(Clone, Debug)]
pub struct Leaf {
    common_name: String,
    names: Vec<SanType>,
    valid: Valid,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

/// Validity period of a certificate.
#[derive(Clone, Copy, Debug)]
enum Valid {
    Before,
    Now,
    Later,
    /// For this number of days and an hour more.
    Days(u32),
}

impl Valid {
    /// The first year; `None` means the default of rcgen, 1975 to 4096.
    fn since(self) -> Option<i32> {
        match self {
            Valid::Before => Some(2018),
            Valid::Now | Valid::Days(_) => None,
            Valid::Later => Some(2999),
        }
    }
}

/// A certificate of `tests/certs`; the file `make` there describes each.
pub fn fixture(name: &str) -> Identity {
    let file =
        |end: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/certs/{name}.{end}"));
    Identity {
        cert: file("pem"),
        key: file("key"),
    }
}

impl Leaf {
    /// A server certificate for `localhost` (a DNS name), 127.0.0.1 and ::1.
    pub fn server() -> Self {
        Leaf {
            common_name: "etcd server".into(),
            names: vec![
                SanType::DnsName("localhost".try_into().unwrap()),
                SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            ],
            valid: Valid::Now,
            // etcd also uses it as a client, to dial its own gRPC port.
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        }
    }

    /// A server certificate for this DNS name only.
    pub fn server_named(name: &str) -> Self {
        Leaf {
            names: vec![SanType::DnsName(name.try_into().unwrap())],
            ..Leaf::server()
        }
    }

    /// A client certificate; with authentication enabled, etcd uses its common name as the user.
    pub fn client(common_name: &str) -> Self {
        Leaf {
            common_name: common_name.into(),
            names: Vec::new(),
            valid: Valid::Now,
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    /// A server certificate with a common name and no subject alternative names.
    pub fn server_without_names() -> Self {
        Leaf {
            names: Vec::new(),
            ..Leaf::server()
        }
    }

    /// Makes it valid in 2019 only, so it has expired.
    pub fn expired(mut self) -> Self {
        self.valid = Valid::Before;
        self
    }

    /// Makes it expire in so many days and an hour.
    pub fn days_left(mut self, days: u32) -> Self {
        self.valid = Valid::Days(days);
        self
    }

    /// Makes it valid in 2999 only.
    pub fn not_valid_yet(mut self) -> Self {
        self.valid = Valid::Later;
        self
    }
}

impl Authority {
    /// Creates a new authority.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!(
            "etcd-blocking-{}-certs-{count}",
            std::process::id()
        ));
        // Remove files of a killed process with the same pid.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        Authority {
            dir,
            name: name.into(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The file of its own certificate, for the trust stores of clients and servers.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The directory of all its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Signs a certificate and writes `{file}.pem` and `{file}.key` (PKCS#8). Existing files are replaced
    /// atomically, the key first, as in a careful rotation.
    pub fn sign(&self, file: &str, leaf: &Leaf) -> Identity {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, leaf.common_name.as_str());
        params.subject_alt_names = leaf.names.clone();
        params.extended_key_usages = leaf.usages.clone();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        if let Some(year) = leaf.valid.since() {
            params.not_before = date_time_ymd(year, 1, 1);
            params.not_after = date_time_ymd(year + 1, 1, 1);
        }
        if let Valid::Days(days) = leaf.valid {
            let left = Duration::from_secs(u64::from(days) * 86_400 + 3_600);
            params.not_after = (SystemTime::now() + left).into();
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            cert: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
        };
        replace(&identity.key, &key.serialize_pem());
        replace(&identity.cert, &certificate.pem());
        identity
    }

    /// Signs a server certificate for `localhost`, 127.0.0.1 and ::1.
    pub fn server(&self) -> Identity {
        self.sign("server", &Leaf::server())
    }

    /// Signs a client certificate with this common name.
    pub fn client(&self, common_name: &str) -> Identity {
        self.sign(&format!("client-{common_name}"), &Leaf::client(common_name))
    }

    /// The common name of its certificate.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Converts a P-256 key from PKCS #8 to SEC1: the contents of its OCTET STRING, after version and algorithm.
pub fn sec1(pkcs8: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = pkcs8.lines().filter(|line| !line.starts_with("---"));
    let mut bits = Vec::new();
    for digit in digits.flat_map(str::bytes).filter(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|d| *d == digit).unwrap();
        bits.extend((0..6).rev().map(|bit| value >> bit & 1 == 1));
    }
    let to_number = |bits: &[bool]| bits.iter().fold(0, |n, bit| n << 1 | usize::from(*bit));
    let der: Vec<u8> = bits
        .chunks_exact(8)
        .map(|byte| to_number(byte) as u8)
        .collect();
    // SEQUENCE (2 or 3 bytes), version (3), algorithm (21), OCTET STRING (2).
    let inner = der
        .windows(5)
        .position(|window| window[..3] == [0x02, 0x01, 0x01] && window[3] == 0x04)
        .unwrap();
    let key = &der[inner - 2..];
    let mut bits: Vec<bool> = Vec::new();
    for byte in key {
        bits.extend((0..8).rev().map(|bit| byte >> bit & 1 == 1));
    }
    while !bits.len().is_multiple_of(6) {
        bits.push(false);
    }
    let mut text: String = bits
        .chunks(6)
        .map(|digit| char::from(DIGITS[to_number(digit)]))
        .collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let body = lines.join("\n");
    format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n")
}

//! Fuzz targets of certificates and keys.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use tokio_rustls::rustls::RootCertStore;
use zeroize::Zeroizing;

use super::material::{self, Named};
use super::settings::Source;
use super::{pem as text, x509 as der};

/// Finds the sections of a PEM text. None is lost, and no error contains a part of the text.
pub(crate) fn pem(data: &[u8]) {
    let begin = b"-----BEGIN ";
    // Markers that overlap count, too.
    let begins = data
        .windows(begin.len())
        .filter(|part| part == begin)
        .count();
    if let Ok(sections) = text::sections(data) {
        assert_eq!(sections.len(), begins);
        for section in &sections {
            let _ = (section.is_encrypted(), section.has_escaped_lines());
            let alone = section.text(section.label);
            let again = text::sections(&alone).expect("a section is one");
            assert_eq!(again.len(), 1);
            assert_eq!(again[0].label, section.label);
        }
    }
    let source = Source::Bytes(Zeroizing::new(data.to_vec()).into());
    let named = Named(&source, "certificate");
    for certificate in material::chain(&named, data).unwrap_or_default() {
        let _ = der::facts(&certificate.der);
        let _ = der::alt_names(&certificate.der);
    }
    let mut roots = RootCertStore::empty();
    let errors = [
        material::chain(&named, data).err(),
        material::add_authorities(&mut roots, &named, data).err(),
        material::key(&named, data).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(error.len() <= 400, "{error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}

/// Reads a certificate. Its names are parts of it.
pub(crate) fn x509(data: &[u8]) {
    let _ = der::facts(data);
    let _ = der::key(data);
    // Each name has a tag and a length.
    assert!(der::alt_names(data).len() * 2 <= data.len());
}

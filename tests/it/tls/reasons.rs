//! Errors about a server's certificate: each names the reason and the remedy.

use super::*;
use crate::support::certs::fixture;

/// The text of the error for a server with this certificate.
fn refused(server: &Identity, ca: impl Into<std::path::PathBuf>) -> String {
    let etcd = etcd(server, None);
    let client = connect(&etcd.endpoint(), Tls::new().ca_file(ca));
    let error = client.get("k").unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Tls, "{text}");
    assert_eq!(error.endpoint(), Some(&*etcd.endpoint()), "{text}");
    text
}

#[track_caller]
fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    // No debug output of a library.
    for word in ["Other(", "Context", "Failure", "{"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

// Fault: N12
#[test]
fn the_error_of_a_too_short_key_names_its_certificate() {
    let own = refused(&fixture("rsa1024"), fixture("ca").cert);
    assert_contains(
        &own,
        &[
            "the server's certificate has an RSA key of 1024 bits",
            "2048",
        ],
    );
    let above = refused(&fixture("under-rsa1024"), fixture("ca-rsa1024").cert);
    assert_contains(
        &above,
        &["an authority of the server's certificate has an RSA key of 1024 bits"],
    );
}

// Fault: N12
#[test]
fn the_error_of_an_unsupported_curve_names_it_and_the_remedy() {
    if cfg!(feature = "tls-aws-lc") {
        let etcd = etcd(&fixture("p521"), None);
        works(&connect(
            &etcd.endpoint(),
            Tls::new().ca_file(fixture("ca").cert),
        ));
        return;
    }
    // The server detects it first, and its alert has few details.
    let own = refused(&fixture("p521"), fixture("ca").cert);
    assert_contains(&own, &["nothing in common", "P-521", "tls-aws-lc", "P-256"]);
    let above = refused(&fixture("under-p521"), fixture("ca-p521").cert);
    assert_contains(
        &above,
        &["an authority of", "the curve P-521", "tls-aws-lc"],
    );
}

// Fault: N12
#[test]
fn the_error_of_a_ca_certificate_as_server_certificate_has_the_remedy() {
    let server = fixture("x509-default");
    let text = refused(&server, &server.cert);
    assert_contains(&text, &["CA:TRUE", "openssl req -x509", "CA:FALSE"]);
}

// Fault: N12
#[test]
fn the_error_of_an_unusable_certificate_name_has_the_remedy() {
    let ca = Authority::new("the authority");
    let named = ca.sign("named", &Leaf::server_named("127.0.0.1"));
    assert_contains(
        &refused(&named, ca.ca_file()),
        &["has 127.0.0.1 as a DNS name", "subjectAltName=IP:127.0.0.1"],
    );
    let bare = ca.sign("bare", &Leaf::server_without_names());
    assert_contains(
        &refused(&bare, ca.ca_file()),
        &[
            "no subject alternative name",
            "common name is not used",
            "subjectAltName=IP:127.0.0.1",
        ],
    );
}

// Fault: F22
#[test]
fn the_error_of_a_certificate_that_is_not_yet_valid_mentions_the_clocks() {
    let ca = Authority::new("the authority");
    let early = ca.sign("early", &Leaf::server().not_valid_yet());
    let text = refused(&early, ca.ca_file());
    assert_contains(&text, &["is not valid yet, but in", "check the clocks"]);
}

/// Some editors write a byte order mark, and `cat` joins files without a last line end.
// Fault: N11
#[test]
fn every_authority_of_a_file_is_trusted_in_every_file_format() {
    let secure = Secure::start();
    let other = Authority::new("another");
    let text = |ca: &Authority| std::fs::read_to_string(ca.ca_file()).unwrap();
    let (right, wrong) = (text(&secure.ca), text(&other));
    let texts = [
        format!("\u{feff}{right}"),
        format!("{}{right}", wrong.trim_end()),
        format!("{wrong}\u{feff}{right}"),
        format!("{wrong}{right}").replace('\n', "\r\n"),
        format!("{wrong}{right}").replace('\n', "  \n  "),
        format!("{right}{wrong}").replace('\n', ""),
    ];
    for text in texts {
        let client = &secure.client;
        let tls = Tls::new()
            .ca_pem(text)
            .client_cert_files(&client.cert, &client.key);
        works(&connect(&secure.etcd.endpoint(), tls));
    }
}

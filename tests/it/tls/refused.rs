//! Refused TLS settings and certificates: the error is immediate and names file, endpoint and reason.

use std::thread;

use etcd_blocking::{LeaseId, Put};

use super::*;
use crate::support::certs::fixture;
use crate::support::proxy::{Dir, Proxy};
use crate::support::raw::RawServer;
use crate::support::server::{Version, version};

/// The limit until a TLS failure is reported: below the timeouts of connections (3 s) and calls (5 s).
/// The client dials a failing address at most every 250 ms.
const AT_ONCE: Duration = Duration::from_millis(2500);

/// Checks that every kind of call fails at once with `Tls` and with all of `parts` in its text.
#[track_caller]
fn fails(client: &Client, parts: &[&str]) {
    let put = in_time(|| client.call(Put::new("k", "v")).unwrap_err());
    assert_contains(&put, "put \"k\": ", parts);
    assert!(!put.outcome_unknown() && !put.is_retryable(), "{put}");
    assert!(put.attempts() >= 1 && put.endpoint().is_some(), "{put}");
    assert_contains(
        &in_time(|| client.get("k").unwrap_err()),
        "get \"k\": ",
        parts,
    );
    assert_contains(&in_time(|| client.watch("k").unwrap_err()), "watch", parts);
    assert_contains(
        &in_time(|| client.mirror(KeyRange::prefix("k")).unwrap_err()),
        "",
        parts,
    );
    let lease = LeaseId::new(7).unwrap();
    let alive = client.keep_alive(lease).unwrap();
    let item = alive.receiver().recv_timeout(SOON).unwrap();
    assert_contains(&item.unwrap_err(), "keep alive", parts);
    assert_contains(
        &in_time(|| Discovery::new(client).service("api").unwrap_err()),
        "",
        parts,
    );
    let registrar = Registrar::builder(client).start().unwrap();
    let instance = Instance::new("api", "127.0.1.1:80");
    assert_contains(
        &in_time(|| registrar.register(instance).unwrap_err()),
        "register",
        parts,
    );
}

#[track_caller]
fn in_time(call: impl FnOnce() -> Error) -> Error {
    let begun = Instant::now();
    let error = call();
    assert!(begun.elapsed() < AT_ONCE, "{:?}: {error}", begun.elapsed());
    error
}

#[track_caller]
fn assert_contains(error: &Error, operation: &str, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Tls, "{text}");
    assert!(text.starts_with(operation), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

// Case: CN-01
// Fault: F22
#[test]
fn a_server_of_an_unknown_authority_is_refused() {
    let secure = Secure::start();
    let other = Authority::new("another");
    let endpoint = secure.etcd.endpoint();
    let file = other.ca_file();
    let tls = Tls::new().ca_file(&file);
    fails(
        &connect(&endpoint, tls),
        &[&endpoint, file.to_str().unwrap(), "not signed by"],
    );
    // An authority of the same name is still a different one.
    let imitation = Authority::new(secure.ca.name());
    let tls = Tls::new().ca_file(imitation.ca_file());
    fails(&connect(&endpoint, tls), &[&endpoint, "not signed by"]);
}

// Case: CN-01
#[test]
fn https_without_settings_trusts_only_the_authorities_of_the_system() {
    let secure = Secure::start();
    let endpoint = secure.etcd.endpoint();
    match Client::connect([endpoint.clone()]) {
        Ok(client) => fails(&client, &[&endpoint, "that this system trusts"]),
        // A machine without any authorities.
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains("Tls::ca_file"), "{error}");
        }
    }
}

// Fault: F22
#[test]
fn a_server_with_another_name_is_refused() {
    let secure = Secure::start();
    let endpoint = secure.etcd.endpoint();
    let tls = secure.tls().server_name("db.example");
    let parts = ["is for localhost, 127.0.0.1, ::1, not for db.example"];
    fails(&connect(&endpoint, tls), &parts);
}

// Fault: F22
#[test]
fn a_server_with_an_expired_certificate_is_refused() {
    let ca = Authority::new("the authority");
    let etcd = etcd(&ca.sign("server", &Leaf::server().expired()), None);
    let endpoint = etcd.endpoint();
    let tls = Tls::new().ca_file(ca.ca_file());
    fails(
        &connect(&endpoint, tls),
        &[&endpoint, "expired", "days ago"],
    );
}

// Fault: F22
#[test]
fn the_error_of_a_missing_client_certificate_has_the_reason() {
    let secure = Secure::start();
    let endpoint = secure.etcd.endpoint();
    let tls = Tls::new().ca_file(secure.ca.ca_file());
    let parts = [&endpoint, "requires a client certificate, and none is set"];
    fails(&connect(&endpoint, tls), &parts);
}

#[test]
fn the_error_of_an_untrusted_client_certificate_has_the_reason() {
    let secure = Secure::start();
    let endpoint = secure.etcd.endpoint();
    let stranger = Authority::new("another").client("mallory");
    let other = Authority::new("another");
    let stranger_again = other.client("mallory");
    assert_ne!(stranger.cert, stranger_again.cert);
    let tls = Tls::new()
        .ca_file(secure.ca.ca_file())
        .client_cert_files(&stranger_again.cert, &stranger_again.key);
    let file = stranger_again.cert.to_str().unwrap();
    fails(
        &connect(&endpoint, tls),
        &[&endpoint, "the server refused the client certificate", file],
    );
}

// Case: CN-01
#[test]
fn the_error_of_an_expired_client_certificate_has_the_reason() {
    let secure = Secure::start();
    let endpoint = secure.etcd.endpoint();
    let old = secure.ca.sign("old", &Leaf::client("alice").expired());
    let tls = Tls::new()
        .ca_file(secure.ca.ca_file())
        .client_cert_files(&old.cert, &old.key);
    let file = old.cert.to_str().unwrap();
    // The alert has the reason; the Go version of Debian's 3.4 sends only `bad certificate`.
    let reason = if version() < Version(3, 5, 0) {
        "does not accept it"
    } else {
        "expired"
    };
    fails(&connect(&endpoint, tls), &[&endpoint, file, reason]);
}

/// The alert of TLS 1.3 follows the handshake, and the reset follows the alert: the alert must be reported.
#[test]
fn a_late_refusal_of_the_client_certificate_is_always_reported() {
    let secure = Secure::start();
    let tls = Tls::new().ca_file(secure.ca.ca_file());
    let slow = Proxy::start(secure.etcd.client_addr()).unwrap();
    let endpoints = [secure.etcd.endpoint(), format!("https://{}", slow.addr())];
    for round in 0..20 {
        slow.delay(Dir::Both, Duration::from_millis(round));
        for endpoint in &endpoints {
            let client = connect(endpoint, tls.clone());
            assert_contains(&client.get("k").unwrap_err(), "get", &["none is set"]);
        }
    }
}

#[test]
fn the_error_of_a_plaintext_client_at_a_tls_server_has_the_reason() {
    let secure = Secure::start();
    let endpoint = format!("http://{}", secure.etcd.client_addr());
    let client = Client::connect([endpoint.clone()]).unwrap();
    fails(&client, &[&endpoint, "under TLS"]);
}

// Case: CN-01
// Fault: F22
#[test]
fn the_error_of_a_tls_client_at_a_plaintext_server_has_the_reason() {
    let ca = Authority::new("the authority");
    let etcd = LocalEtcd::start().unwrap();
    let endpoint = format!("https://{}", etcd.client_addr());
    let tls = Tls::new().ca_file(ca.ca_file());
    fails(
        &connect(&endpoint, tls.clone()),
        &[&endpoint, "without TLS"],
    );
    let other = RawServer::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let endpoint = format!("https://{}", other.addr());
    fails(
        &connect(&endpoint, tls),
        &[&endpoint, "does not answer with TLS"],
    );
}

/// A proxy without its server closes connections, which shows nothing about TLS.
#[test]
fn a_closed_connection_alone_is_not_a_tls_error_and_is_retried() {
    let secure = Secure::start();
    let proxy = Proxy::start(secure.etcd.client_addr()).unwrap();
    proxy.cut();
    let client = connect(&format!("https://{}", proxy.addr()), secure.tls());
    let quick = client.with_timeout(Duration::from_millis(600));
    let error = quick.get("k").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.with_timeout(SOON).put("k", "v"));
        eventually(SOON, "it dials", || (proxy.connections() > 2).then_some(()));
        proxy.restore();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn one_endpoint_with_a_tls_failure_fails_no_call() {
    let secure = Secure::start();
    let stranger = Authority::new("another");
    let bad = etcd(&stranger.server(), None);
    let plain = LocalEtcd::start().unwrap();
    let endpoints = [
        bad.endpoint(),
        format!("https://{}", plain.client_addr()),
        secure.etcd.endpoint(),
    ];
    for _ in 0..10 {
        let client = Client::builder(endpoints.clone())
            .tls(secure.tls())
            .connect()
            .unwrap();
        works(&client);
        works(&client.with_timeout(AT_ONCE));
    }
}

// Fault: F22
#[test]
fn all_endpoints_with_tls_failures_are_named_and_a_stopped_one_is_awaited() {
    let secure = Secure::start();
    let plain = LocalEtcd::start().unwrap();
    let bad = [
        secure.etcd.endpoint(),
        format!("https://{}", plain.client_addr()),
    ];
    let tls = Tls::new().ca_file(secure.ca.ca_file());
    let client = Client::builder(bad.clone())
        .tls(tls.clone())
        .connect()
        .unwrap();
    fails(&client, &[&bad[0], &bad[1], "none is set", "without TLS"]);
    let down = "https://127.0.0.1:1".to_owned();
    let client = Client::builder([bad[0].clone(), down])
        .tls(tls)
        .timeout(Duration::from_millis(700))
        .connect()
        .unwrap();
    let begun = Instant::now();
    let error = client.get("k").unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(600));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(
        text.contains("none is set") && text.contains("connection refused"),
        "{text}"
    );
}

#[test]
fn invalid_tls_settings_are_refused_before_sending() {
    let ca = Authority::new("the authority");
    let (alice, bob) = (ca.client("alice"), ca.client("bob"));
    let file = |name: &str, text: &str| {
        let path = ca.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let empty = file("empty.pem", "");
    let junk = file("junk.pem", "-----BEGIN CERTIFICATE-----\nCANARY\n");
    let wrong = file(
        "wrong.pem",
        "-----BEGIN CERTIFICATE-----\nQ0FOQVJZ\n-----END CERTIFICATE-----\n",
    );
    let text = |path| std::fs::read_to_string(path).unwrap();
    let upside_down = file(
        "upside-down.pem",
        &(text(ca.ca_file()) + &text(alice.cert.clone())),
    );
    let below = text(ca.ca_file()).lines().count() + 1;
    let goes =
        format!("upside-down.pem: section 2 (CERTIFICATE, line {below}) matches private key");
    let short = fixture("rsa1024");
    let trust = || Tls::new().ca_file(ca.ca_file());
    let server = RawServer::silent();
    let https = format!("https://{}", server.addr());
    let cases: Vec<(&str, Tls, &str)> = vec![
        (
            &https,
            Tls::new().ca_file("/nowhere/ca.pem"),
            "CA file /nowhere/ca.pem: No such file",
        ),
        (&https, Tls::new().ca_file(&empty), "empty.pem: it is empty"),
        (&https, Tls::new().ca_file(&junk), "junk.pem: malformed"),
        (
            &https,
            Tls::new().ca_file(&wrong),
            "wrong.pem: section 1 (CERTIFICATE, line 1) is not an X.509",
        ),
        (
            &https,
            Tls::new().ca_file(&alice.key),
            "no certificate in it",
        ),
        (
            &https,
            Tls::new().ca_pem(""),
            "CA file given as PEM text: it is empty",
        ),
        (
            &https,
            trust().client_cert_files(&alice.cert, "/nowhere/key"),
            "private key /nowhere/key: No such",
        ),
        (
            &https,
            trust().client_cert_files(&alice.cert, &alice.cert),
            "no private key in it",
        ),
        (
            &https,
            trust().client_cert_files(&alice.key, &alice.key),
            "no certificate in it",
        ),
        (
            &https,
            trust().client_cert_files(&alice.cert, &bob.key),
            "do not match",
        ),
        (
            &https,
            trust().client_cert_files(&upside_down, &alice.key),
            &goes,
        ),
        (
            &https,
            trust().client_cert_files(&short.cert, &short.key),
            "of an unsupported kind; supported are RSA of 2048",
        ),
        (
            &https,
            Tls::new().ca_pem([0x30, 0x82, 0x01, 0xff]),
            "CA file given as PEM text: it is binary (DER",
        ),
        (
            &https,
            trust().client_cert_pem(read(&alice.cert), ""),
            "private key given as PEM text: it is empty",
        ),
        (
            &https,
            trust().server_name("not a name"),
            "neither a DNS name nor an IP address",
        ),
        (
            &https,
            trust().server_name_for("https://10.0.0.9:1", "a"),
            "not an endpoint of this client",
        ),
        ("http://127.0.0.1:1", trust(), "write https://"),
    ];
    for (endpoint, tls, reason) in cases {
        let error = builder(endpoint, tls).connect().unwrap_err();
        let text = format!("{error:?} {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
        assert!(error.to_string().starts_with("connect: "), "{text}");
        assert!(text.contains(reason), "{reason}: {text}");
        assert!(!text.contains("CANARY"), "{text}");
    }
    let mixed = Client::connect([&*https, "http://127.0.0.1:1"]).unwrap_err();
    assert_eq!(mixed.kind(), ErrorKind::InvalidArgument);
    assert!(mixed.to_string().contains("mixed"), "{mixed}");
    assert_eq!(server.connections(), 0);
}

//! `doctor` and certificates.

use std::path::Path;

use etcd_blocking::local::LocalEtcd;

use crate::doctor::{doctor, finding};
use crate::program::Ended;
use crate::support::certs::{Authority, Identity, Leaf};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn serve(server: &Identity, clients_of: Option<&Authority>) -> LocalEtcd {
    let builder = LocalEtcd::builder().tls(&server.cert, &server.key);
    let builder = match clients_of {
        Some(authority) => builder.client_ca(authority.ca_file()),
        None => builder,
    };
    builder.start().unwrap()
}

fn with_files(etcd: &LocalEtcd, ca: &Authority, client: Option<&Identity>, more: &[&str]) -> Ended {
    let ca = ca.ca_file();
    let mut args = vec!["--cacert", text(&ca)];
    if let Some(client) = client {
        args.extend(["--cert", text(&client.cert), "--key", text(&client.key)]);
    }
    args.extend(more);
    doctor(&etcd.endpoint(), &args)
}

#[test]
fn certificates_of_the_server_are_judged() {
    let ca = Authority::new("authority of the servers");
    let other = Authority::new("another authority");
    let good = serve(&ca.server(), None);
    let ended = with_files(&good, &ca, None, &["--verbose"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let found = finding(
        &ended,
        "the certificate of the server (etcd server) is valid for",
    );
    assert!(found.starts_with("ok "), "{found}");
    finding(&ended, "no difference to the clock");
    let ended = with_files(&good, &other, None, &[]);
    assert_eq!(ended.code, 11, "{ended:?}");
    let found = finding(&ended, "error ");
    assert!(
        found.contains("authority") && found.contains("--cacert"),
        "{found}"
    );
    // http, where the server has TLS.
    let ended = doctor(&good.endpoint().replace("https:", "http:"), &[]);
    assert_eq!(ended.code, 11, "{ended:?}");
    assert!(finding(&ended, "runs under TLS").contains("https"));
    for (leaf, expected) in [
        (
            Leaf::server_named("etcd.example"),
            "certificate is for etcd.example, not for 127.0.0.1",
        ),
        (Leaf::server().expired(), "expired"),
        (Leaf::server().not_valid_yet(), "is not valid yet, but in"),
        (Leaf::server().days_left(12), "is valid for 12 days more"),
    ] {
        let etcd = serve(&ca.sign("server", &leaf), None);
        let ended = with_files(&etcd, &ca, None, &[]);
        assert_eq!(ended.code, 11, "{ended:?}");
        let found = finding(&ended, expected);
        let severity = if expected.contains("12 days") {
            "warning"
        } else {
            "error"
        };
        assert!(found.starts_with(severity), "{found}");
        let all = ended.stdout.lines().filter(|line| !line.starts_with(' '));
        assert_eq!(all.count(), 2, "{ended:?}");
    }
}

#[test]
fn certificates_of_the_client_are_judged() {
    let ca = Authority::new("authority of the servers");
    let clients = Authority::new("authority of the clients");
    let etcd = serve(&ca.server(), Some(&clients));
    let good = clients.client("bob");
    let ended = with_files(&etcd, &ca, Some(&good), &["--verbose"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let found = finding(&ended, "the certificate of this client (bob) is valid for");
    assert!(found.starts_with("ok "), "{found}");
    finding(&ended, "no difference to the clock");
    let ended = with_files(&etcd, &ca, None, &[]);
    assert_eq!(ended.code, 11, "{ended:?}");
    assert!(finding(&ended, "error ").contains("certificate"));
    let expired = clients.sign("old", &Leaf::client("old").expired());
    let ended = with_files(&etcd, &ca, Some(&expired), &[]);
    assert_eq!(ended.code, 11, "{ended:?}");
    finding(&ended, "the certificate of this client (old) expired");
    let soon = clients.sign("soon", &Leaf::client("soon").days_left(3));
    let ended = with_files(&etcd, &ca, Some(&soon), &[]);
    assert_eq!(ended.code, 11, "{ended:?}");
    let found = finding(
        &ended,
        "the certificate of this client (soon) is valid for 3 days more",
    );
    assert!(found.starts_with("warning "), "{found}");
    // The key of another certificate.
    let mixed = Identity {
        cert: good.cert.clone(),
        key: soon.key.clone(),
    };
    let ended = with_files(&etcd, &ca, Some(&mixed), &[]);
    assert_eq!(ended.code, 11, "{ended:?}");
    assert!(finding(&ended, "do not match").starts_with("error "));
    let nothing = ["--cert", "/nonexistent", "--key", "/nonexistent"];
    let ended = with_files(&etcd, &ca, None, &nothing);
    assert_eq!(ended.code, 11, "{ended:?}");
    finding(&ended, "/nonexistent");
}

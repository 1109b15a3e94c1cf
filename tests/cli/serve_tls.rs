//! TLS and client certificates of `serve`.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::program::{SOON, command_for, run};
use crate::serve::{Reply, Server, register};
use crate::support::certs::{Authority, Identity, Leaf};
use crate::support::wait::eventually;

/// An address that only this machine reaches, and that is not one of the loopback network: the rules for addresses
/// that other machines can reach hold. Without IPv6 there is none, and it is a usual one.
pub(crate) fn not_local() -> &'static str {
    let address = "[::ffff:127.0.0.1]:0";
    match TcpListener::bind(address) {
        Ok(_) => address,
        Err(error) => {
            eprintln!("skipped: the rules for other machines: {address}: {error}");
            "127.0.0.1:0"
        }
    }
}

/// The flags of TLS for a server.
fn flags(server: &Identity, client_ca: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let flags = ["--tls-cert", "--tls-key", "--tls-client-ca"];
    let files = [&server.cert, &server.key, client_ca].map(text);
    flags
        .into_iter()
        .map(str::to_owned)
        .zip(files)
        .flat_map(|(flag, file)| [flag, file])
        .collect()
}

fn start(etcd: &LocalEtcd, flags: &[String]) -> Server {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = Server::start(etcd, &flags);
    assert!(server.program.stderr().contains("listening on https://"));
    server
}

fn client(trusted: &Path, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(trusted).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        Some(identity) => {
            let chain = CertificateDer::pem_file_iter(&identity.cert).unwrap();
            let chain = chain.map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

/// A request over TLS.
fn get(server: &Server, config: &Arc<ClientConfig>, path: &str, header: &str) -> io::Result<Reply> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let socket = TcpStream::connect(&server.address)?;
    socket.set_read_timeout(Some(SOON))?;
    let mut stream = StreamOwned::new(connection, socket);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n"
    )?;
    let mut text = String::new();
    // An end without a message of TLS would be an error.
    stream.read_to_string(&mut text)?;
    Ok(Reply::parse(&text))
}

#[track_caller]
fn refusal(server: &Server, config: &Arc<ClientConfig>) -> String {
    let refused = get(server, config, "/healthz", "");
    refused.expect_err("a refused handshake").to_string()
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_are_served() {
    let etcd = LocalEtcd::start().unwrap();
    let (_client, _registrar, _registrations) = register(&etcd);
    let (servers, clients, foreign) = (
        Authority::new("servers"),
        Authority::new("clients"),
        Authority::new("foreign"),
    );
    let server = start(&etcd, &flags(&servers.server(), &clients.ca_file()));
    let trusted = servers.ca_file();

    let right = client(&trusted, Some(&clients.client("operator")));
    eventually(SOON, "a list", || {
        let reply = get(&server, &right, "/v1/services/api", "").unwrap();
        (reply.status == 200 && reply.body.contains("127.0.0.1:8001")).then_some(())
    });
    let events = get(&server, &right, "/events?once", "").unwrap();
    assert!(events.body.starts_with("event: snapshot\n"), "{events:?}");
    assert_eq!(get(&server, &right, "/", "").unwrap().status, 200);

    let none = client(&trusted, None);
    let text = refusal(&server, &none);
    assert!(text.contains("CertificateRequired"), "{text}");
    let text = refusal(
        &server,
        &client(&trusted, Some(&foreign.client("operator"))),
    );
    assert!(
        text.contains("UnknownCA") || text.contains("DecryptError"),
        "{text}"
    );
    let old = clients.sign("old", &Leaf::client("operator").expired());
    let text = refusal(&server, &client(&trusted, Some(&old)));
    assert!(text.contains("CertificateExpired"), "{text}");

    let plain = server.get("/healthz");
    assert_eq!(plain.status, 400, "{plain:?}");
    assert!(plain.body.contains("HTTPS"), "{plain:?}");
    assert_eq!(get(&server, &right, "/healthz", "").unwrap().status, 200);
}

#[test]
fn a_slow_handshake_delays_nobody_and_ends() {
    let etcd = LocalEtcd::start().unwrap();
    let authority = Authority::new("both");
    let server = start(&etcd, &flags(&authority.server(), &authority.ca_file()));
    let right = client(&authority.ca_file(), Some(&authority.client("operator")));
    // The head of a record of 512 bytes, of which a byte comes from time to time.
    let beginning = [22, 3, 1, 2, 0, 1];
    let begun = Instant::now();
    let limit = Duration::from_secs(70);
    let slow: Vec<_> = [&[][..], &beginning[..1], &beginning]
        .into_iter()
        .map(|bytes| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.set_read_timeout(Some(limit)).unwrap();
            stream.write_all(bytes).unwrap();
            if bytes.len() > 1 {
                let mut dripping = stream.try_clone().unwrap();
                std::thread::spawn(move || {
                    while dripping.write_all(&[0]).is_ok() && begun.elapsed() < limit {
                        std::thread::sleep(Duration::from_millis(300));
                    }
                });
            }
            stream
        })
        .collect();
    let asked = Instant::now();
    assert_eq!(get(&server, &right, "/healthz", "").unwrap().status, 200);
    println!(
        "a request beside slow handshakes took {:?}",
        asked.elapsed()
    );
    for mut stream in slow {
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        let is_timeout = end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(
            !is_timeout,
            "a slow handshake was not ended within {limit:?}"
        );
    }
    println!("slow handshakes were ended after {:?}", begun.elapsed());
}

#[test]
fn renewed_certificates_are_used_and_wrong_ones_are_not() {
    let etcd = LocalEtcd::start().unwrap();
    let (servers, other) = (Authority::new("servers"), Authority::new("other"));
    let identity = servers.server();
    let server = start(&etcd, &flags(&identity, &servers.ca_file()));
    let operator = servers.client("operator");
    let before = client(&servers.ca_file(), Some(&operator));
    let after = client(&other.ca_file(), Some(&operator));
    assert!(get(&server, &before, "/healthz", "").is_ok());
    assert!(get(&server, &after, "/healthz", "").is_err());
    // A key without its certificate: the pair of before is used.
    let renewed = other.server();
    fs::copy(&renewed.key, &identity.key).unwrap();
    assert!(get(&server, &before, "/healthz", "").is_ok());
    server.program.complains("stay in use");
    fs::copy(&renewed.cert, &identity.cert).unwrap();
    assert!(get(&server, &after, "/healthz", "").is_ok());
    assert!(get(&server, &before, "/healthz", "").is_err());
    fs::remove_file(&identity.cert).unwrap();
    assert!(get(&server, &after, "/healthz", "").is_ok());
    let key = fs::read_to_string(&renewed.key).unwrap();
    let line = key.lines().nth(1).unwrap();
    assert!(!server.program.stderr().contains(line));
}

#[test]
fn other_machines_need_a_token_or_a_certificate() {
    let etcd = LocalEtcd::start().unwrap();
    let authority = Authority::new("both");
    let identity = authority.server();
    let both = flags(&identity, &authority.ca_file());
    let refused = |flags: &[String]| {
        // Nothing listens there: it is refused before.
        let mut args = vec!["serve", "--listen", "0.0.0.0:0"];
        args.extend(flags.iter().map(String::as_str));
        let ended = run(&mut command_for(&etcd, &args));
        assert_eq!(ended.code, 2, "{ended:?}");
        ended.stderr
    };
    assert!(refused(&[]).contains("--token-file or --tls-client-ca"));
    // Encrypted, and open to everybody.
    assert!(refused(&both[..4]).contains("--token-file or --tls-client-ca"));
    assert!(refused(&both[..2]).contains("--tls-key"));
    assert!(refused(&both[4..]).contains("--tls-cert"));
    let empty = authority.dir().join("empty");
    fs::write(&empty, "").unwrap();
    for (at, name) in [(1, "--tls-cert"), (3, "--tls-key"), (5, "--tls-client-ca")] {
        for file in [empty.to_str().unwrap(), "/does/not/exist"] {
            let mut flags = both.clone();
            flags[at] = file.to_owned();
            let stderr = refused(&flags);
            assert!(stderr.contains(&format!("{name} {file}: ")), "{stderr}");
        }
    }
    let mut crossed = both.clone();
    crossed[3] = authority.client("other").key.to_str().unwrap().to_owned();
    assert!(
        refused(&crossed).contains("KeyMismatch"),
        "{}",
        refused(&crossed)
    );

    let with_certificates = start(
        &etcd,
        &[&["--listen".into(), not_local().into()], &both[..]].concat(),
    );
    let right = client(&authority.ca_file(), Some(&authority.client("operator")));
    assert_eq!(
        get(&with_certificates, &right, "/healthz", "")
            .unwrap()
            .status,
        200
    );

    let token = authority.dir().join("token");
    fs::write(&token, "0123456789abcdef0123\n").unwrap();
    let token = ["--token-file".into(), token.to_str().unwrap().to_owned()];
    let listen = ["--listen".into(), not_local().into()];
    let with_both = start(&etcd, &[&listen, &both[..], &token].concat());
    assert_eq!(get(&with_both, &right, "/metrics", "").unwrap().status, 401);
    let header = "Authorization: Bearer 0123456789abcdef0123\r\n";
    assert_eq!(
        get(&with_both, &right, "/metrics", header).unwrap().status,
        200
    );
    // Encryption alone, with the token.
    let encrypted = start(&etcd, &[&listen, &both[..4], &token].concat());
    let anybody = client(&authority.ca_file(), None);
    assert_eq!(
        get(&encrypted, &anybody, "/metrics", "").unwrap().status,
        401
    );
    assert_eq!(
        get(&encrypted, &anybody, "/metrics", header)
            .unwrap()
            .status,
        200
    );
}

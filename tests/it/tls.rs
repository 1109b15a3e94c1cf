//! TLS: accepted and refused certificates, time to the error, and the effect of rotation.

mod aimed;
mod reasons;
mod records;
mod refused;
mod rotation;

use std::path::Path;
use std::time::{Duration, Instant};

use etcd_blocking::local::{LocalCluster, LocalEtcd};
use etcd_blocking::{
    Client, ClientBuilder, Discovery, Error, ErrorKind, Get, Instance, KeyRange, Registrar, Tls,
};

use crate::support::certs::{Authority, Identity, Leaf, sec1};
use crate::support::server::skip_unless_since;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(10);

/// An etcd with TLS that requires client certificates.
struct Secure {
    ca: Authority,
    client: Identity,
    server: Identity,
    etcd: LocalEtcd,
}

impl Secure {
    fn start() -> Self {
        let ca = Authority::new("the authority");
        let server = ca.server();
        let client = ca.client("alice");
        let etcd = etcd(&server, Some(&ca));
        Secure {
            ca,
            client,
            server,
            etcd,
        }
    }

    fn tls(&self) -> Tls {
        Tls::new()
            .ca_file(self.ca.ca_file())
            .client_cert_files(&self.client.cert, &self.client.key)
    }

    fn client(&self) -> Client {
        connect(&self.etcd.endpoint(), self.tls())
    }
}

/// An etcd with TLS, which requires client certificates signed by `client_ca` if that is set.
fn etcd(server: &Identity, client_ca: Option<&Authority>) -> LocalEtcd {
    let builder = LocalEtcd::builder().tls(&server.cert, &server.key);
    match client_ca {
        Some(ca) => builder.client_ca(ca.ca_file()),
        None => builder,
    }
    .start()
    .unwrap()
}

fn builder(endpoint: &str, tls: Tls) -> ClientBuilder {
    Client::builder([endpoint]).tls(tls)
}

fn connect(endpoint: &str, tls: Tls) -> Client {
    builder(endpoint, tls).connect().unwrap()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Checks that a put and a get work.
#[track_caller]
fn works(client: &Client) {
    // A read replaces the ended connection: a write on it would have an unknown outcome.
    client.get("k").unwrap();
    client.put("k", "v").unwrap();
    assert_eq!(client.get("k").unwrap().unwrap().value(), "v");
}

#[test]
fn tls_works_with_files_or_bytes_and_with_addresses_or_names() {
    let secure = Secure::start();
    let by_address = secure.etcd.endpoint();
    assert!(by_address.starts_with("https://127.0.0.1:"));
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let bare = by_address.replace("https://", "");
    let bytes = Tls::new()
        .ca_pem(read(&secure.ca.ca_file()))
        .client_cert_pem(read(&secure.client.cert), read(&secure.client.key));
    for endpoint in [&by_address, &by_name, &bare] {
        for tls in [secure.tls(), bytes.clone()] {
            works(&connect(endpoint, tls));
        }
    }
    // Several authorities, one of which signed the certificate.
    let other = Authority::new("another");
    let both = secure.tls().ca_file(other.ca_file());
    works(&connect(&by_address, both));
}

#[test]
fn a_sec1_key_and_a_file_with_certificate_and_key_are_accepted() {
    let secure = Secure::start();
    let pem = String::from_utf8(read(&secure.client.key)).unwrap();
    let mut both = read(&secure.client.cert);
    both.extend(sec1(&pem).into_bytes());
    let file = secure.ca.dir().join("both.pem");
    std::fs::write(&file, both).unwrap();
    let tls = Tls::new()
        .ca_file(secure.ca.ca_file())
        .client_cert_files(&file, &file);
    works(&connect(&secure.etcd.endpoint(), tls));
}

#[test]
fn a_server_name_can_be_set_for_all_endpoints_or_for_one() {
    let ca = Authority::new("the authority");
    let mut named = etcd(&ca.sign("a", &Leaf::server_named("a.example")), None);
    let other = etcd(&ca.sign("b", &Leaf::server_named("b.example")), None);
    let trust = || Tls::new().ca_file(ca.ca_file());
    works(&connect(
        &named.endpoint(),
        trust().server_name("a.example"),
    ));
    let each = trust()
        .server_name("a.example")
        .server_name_for(other.endpoint(), "b.example");
    works(&connect(&other.endpoint(), each.clone()));
    // Both endpoints in one client, whichever it uses first.
    let client = Client::builder([named.endpoint(), other.endpoint()]);
    let client = client.tls(each).connect().unwrap();
    works(&client);
    let client = client.with_timeout(SOON);
    named.kill().unwrap();
    eventually(SOON, "the other serves", || client.get("k").ok());
    named.spawn().unwrap();
    named.wait_ready(SOON).unwrap();
    drop(other);
    eventually(SOON, "the first serves again", || client.get("k").ok());
}

// Case: CN-14, CN-15
#[test]
fn unix_sockets_and_addresses_with_tls_work_in_every_spelling() {
    if skip_unless_since(3, 5, "it listens on no socket whose path has folders") {
        return;
    }
    let ca = Authority::new("the authority");
    let server = ca.server();
    // The verified name is that of the file, up to its colon.
    let socket = ca.dir().join("localhost:1");
    let etcd = LocalEtcd::builder().tls(&server.cert, &server.key);
    // A port that was free a moment ago.
    let addr = LocalEtcd::start().unwrap().client_addr();
    let urls = format!("https://{addr},unixs://{}", socket.display());
    let etcd = etcd
        .arg(format!("--listen-client-urls={urls}"))
        .start()
        .unwrap();
    let path = socket.to_str().unwrap();
    for endpoint in [
        format!("unixs:{path}"),
        format!("unixs://{path}"),
        // An endpoint without a scheme uses TLS when there are TLS settings.
        format!("unix:{path}"),
        format!("https://{addr}"),
        format!("https://{addr}/v3"),
        addr.to_string(),
    ] {
        let client = connect(&endpoint, Tls::new().ca_file(ca.ca_file()));
        for n in 0..100 {
            client.put(format!("{endpoint}/{n}"), "v").unwrap();
        }
        let found = client.get_prefix(endpoint.clone()).unwrap().len();
        assert!(found >= 100, "{endpoint}: {found}");
    }
    drop(etcd);
}

#[test]
fn a_cluster_with_tls_survives_the_loss_of_its_leader() {
    let ca = Authority::new("the authority");
    let server = ca.server();
    let client_cert = ca.client("alice");
    let mut cluster = LocalCluster::builder(3)
        .tls(&server.cert, &server.key)
        .client_ca(ca.ca_file())
        .start()
        .unwrap();
    let tls = Tls::new()
        .ca_file(ca.ca_file())
        .client_cert_files(&client_cert.cert, &client_cert.key);
    let client = Client::builder(cluster.endpoints())
        .tls(tls)
        .connect()
        .unwrap();
    let watcher = client.watch(KeyRange::prefix("n/")).unwrap();
    let leader = eventually(SOON, "a leader", || cluster.leader().ok());
    client.put("n/0", "before").unwrap();
    cluster.member_mut(leader).kill().unwrap();
    let client = client.with_timeout(SOON);
    eventually(SOON, "a put after the leader's end", || {
        client.put("n/1", "after").ok()
    });
    assert_eq!(
        client
            .call(Get::prefix("n/"))
            .unwrap()
            .into_kvs()
            .iter()
            .map(|kv| kv.value().clone())
            .collect::<Vec<_>>(),
        ["before", "after"]
    );
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let response = watcher.receiver().recv_timeout(SOON).unwrap().unwrap();
        seen.extend(response.events().iter().map(|e| e.kv().value().clone()));
    }
    assert_eq!(seen[..2], ["before", "after"]);
    let next = eventually(SOON, "another leader", || cluster.leader().ok());
    assert_ne!(next, leader);
}

#[test]
fn instances_are_registered_and_discovered_over_tls() {
    let secure = Secure::start();
    let client = secure.client();
    let registrar = Registrar::builder(&client).start().unwrap();
    let view = Discovery::new(&client).service("api").unwrap();
    let registration = registrar
        .register(Instance::new("api", "127.0.1.1:80"))
        .unwrap();
    eventually(SOON, "it is found", || {
        (view.snapshot().len() == 1).then_some(())
    });
    registration.leave().unwrap();
    eventually(SOON, "it is gone", || {
        view.snapshot().is_empty().then_some(())
    });
}

//! Certificates that are replaced while clients run.

use super::*;
use crate::support::proxy::Proxy;

// Fault: F22
#[test]
fn rotated_server_and_client_certificates_are_used() {
    let mut secure = Secure::start();
    // A proxy counts connections and forces new ones.
    let proxy = Proxy::start(secure.etcd.client_addr()).unwrap();
    let client = connect(&format!("https://{}", proxy.addr()), secure.tls()).with_timeout(SOON);
    works(&client);
    // The server's certificate, of the same authority; the process is restarted too.
    secure.ca.sign("server", &Leaf::server());
    secure.etcd.restart().unwrap();
    works(&client);
    // The client's certificate: the old one is invalid from now on.
    secure.ca.sign("client-alice", &Leaf::client("alice"));
    proxy.drop_connections();
    works(&client);
    // The authority: both sides change, in the order of an operator.
    let next = Authority::new("the next authority");
    let new_server = next.server();
    let new_client = next.client("alice");
    let replace = |old: &Path, new: &Path| std::fs::copy(new, old).unwrap();
    replace(&secure.ca.ca_file(), &next.ca_file());
    replace(&secure.server.cert, &new_server.cert);
    replace(&secure.server.key, &new_server.key);
    replace(&secure.client.cert, &new_client.cert);
    replace(&secure.client.key, &new_client.key);
    secure.etcd.restart().unwrap();
    works(&client);
    assert!(proxy.connections() >= 4, "each of them by a new connection");
}

#[test]
fn a_malformed_client_file_is_named_and_a_corrected_one_is_used() {
    let secure = Secure::start();
    let proxy = Proxy::start(secure.etcd.client_addr()).unwrap();
    let client = connect(&format!("https://{}", proxy.addr()), secure.tls());
    works(&client);
    let good = read(&secure.client.key);
    std::fs::write(&secure.client.key, "").unwrap();
    works(&client); // Nothing is read while the connection lasts.
    proxy.drop_connections();
    let key = secure.client.key.to_str().unwrap();
    let error = eventually(SOON, "a verdict", || {
        client.get("k").err().filter(|e| e.kind() == ErrorKind::Tls)
    });
    let text = error.to_string();
    assert!(text.contains(key) && text.contains("it is empty"), "{text}");
    std::fs::write(&secure.client.key, good).unwrap();
    works(&client);
}

#[test]
fn streams_continue_after_certificates_are_corrected() {
    let mut secure = Secure::start();
    let client = secure.client().with_timeout(SOON);
    let watcher = client.watch("k").unwrap();
    let lease = client.grant(Duration::from_secs(60)).unwrap();
    let alive = client.keep_alive(lease.id()).unwrap();
    alive.receiver().recv_timeout(SOON).unwrap().unwrap();
    let mirror = client.mirror(KeyRange::prefix("k")).unwrap();

    let (cert, key) = (read(&secure.server.cert), read(&secure.server.key));
    let other = Authority::new("another");
    let wrong = other.server();
    std::fs::copy(&wrong.cert, &secure.server.cert).unwrap();
    std::fs::copy(&wrong.key, &secure.server.key).unwrap();
    secure.etcd.restart().unwrap();
    let error = eventually(SOON, "a verdict", || {
        let begun = Instant::now();
        let error = client.get("k").err()?;
        (error.kind() == ErrorKind::Tls).then_some((error, begun.elapsed()))
    });
    assert!(error.0.to_string().contains("not signed by"), "{}", error.0);
    assert!(error.1 < Duration::from_secs(1), "{:?}", error.1);
    // A new handle of the renewed lease works too.
    let begun = Instant::now();
    assert_eq!(client.watch("k2").unwrap_err().kind(), ErrorKind::Tls);
    assert!(begun.elapsed() < Duration::from_secs(1));

    std::fs::write(&secure.server.cert, cert).unwrap();
    std::fs::write(&secure.server.key, key).unwrap();
    secure.etcd.restart().unwrap();
    works(&client);
    let response = watcher.receiver().recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(response.events()[0].kv().value(), "v");
    eventually(SOON, "the mirror follows", || {
        mirror.snapshot().get(b"k").map(|_| ())
    });
    let remaining = client.time_to_live(lease.id()).unwrap();
    assert!(remaining.remaining().is_some(), "the lease is kept");
    assert!(alive.receiver().try_iter().all(|item| item.is_ok()));
}

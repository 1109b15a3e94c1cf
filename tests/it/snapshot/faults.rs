//! Snapshots over connections that break, fall silent or corrupt data, and snapshots that are cancelled.

use super::*;

/// Proxy of `upstream` that flips a bit at the beginning of `marker` in the reply.
fn tamper(upstream: SocketAddr, marker: &'static [u8]) -> RawServer {
    RawServer::start(move |client, _| {
        let server = TcpStream::connect(upstream).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::scope(|scope| {
            scope.spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            let (mut from, mut to) = (server, client);
            let mut chunk = vec![0; 1 << 20];
            while let Ok(count @ 1..) = from.read(&mut chunk) {
                let bytes = &mut chunk[..count];
                let at = bytes.windows(marker.len()).position(|w| w == marker);
                if let Some(at) = at {
                    bytes[at] ^= 1;
                }
                if to.write_all(bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    })
}

#[test]
fn a_flipped_bit_is_detected_and_no_file_is_left() {
    let etcd = LocalEtcd::start().unwrap();
    let direct = client(&etcd.endpoint());
    fill(&direct, 1);
    direct.put("k", "a marker that is easy to find").unwrap();
    let between = tamper(etcd.client_addr(), b"a marker that is easy to find");
    let client = client(&between.endpoint());
    let folder = Folder::new();
    fs::write(folder.file(), "an older backup").unwrap();
    let error = client
        .maintenance()
        .snapshot_to_file(folder.file(), |_| {})
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!error.is_retryable());
    assert_eq!(error.endpoint(), Some(&*between.endpoint()));
    assert_eq!(folder.names(), ["backup.db"]);
    assert_eq!(fs::read(folder.file()).unwrap(), b"an older backup");
    // The output of the writer lacks the digest, so no restore accepts it.
    let mut written = Vec::new();
    assert!(client.maintenance().snapshot_to(&mut written).is_err());
    assert_eq!(written.len() % 512, 0);
    direct.maintenance().snapshot_to(io::sink()).unwrap();
}

// Case: M-03
#[test]
fn a_snapshot_from_a_silent_member_fails_in_time() {
    let etcd = LocalEtcd::start().unwrap();
    let filler = client(&etcd.endpoint());
    fill(&filler, 16);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = Client::builder([proxy.endpoint()])
        .timeout(Duration::from_secs(1))
        .connect()
        .unwrap();

    etcd.pause().unwrap();
    let before = Instant::now();
    let error = client.maintenance().snapshot().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(before.elapsed() < SOON);
    etcd.resume().unwrap();

    let mut snapshot = eventually(SOON, "it serves again", || {
        client.maintenance().snapshot().ok()
    });
    let _first = snapshot.next().unwrap().unwrap();
    proxy.hold(Dir::Down, true);
    let error = within(SOON, move || snapshot.find_map(|piece| piece.err()));
    let error = error.expect("16 MiB do not come through a network that stands still");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(
        error.to_string().contains("the server sent nothing for 1s"),
        "{error}"
    );
    assert!(!error.outcome_unknown());
    proxy.hold(Dir::Down, false);
}

// Case: M-03
#[test]
fn dropping_a_snapshot_cancels_it_on_the_server() {
    let etcd = LocalEtcd::start().unwrap();
    let filler = client(&etcd.endpoint());
    fill(&filler, 16);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = client(&proxy.endpoint());
    client.get("k").unwrap();
    let calls = proxy.connections();
    let mut snapshot = client.maintenance().snapshot().unwrap();
    assert_eq!(proxy.connections(), calls + 1, "it has one of its own");
    snapshot.next().unwrap().unwrap();
    drop(snapshot);

    eventually(SOON, "its connection is closed", || {
        (proxy.open_connections() == calls).then_some(())
    });
    assert!(proxy.bytes_down() < 16 << 20, "only a part was sent");
    client.get("k").unwrap();
}

#[test]
fn a_broken_connection_is_an_error_with_the_progress() {
    let etcd = LocalEtcd::start().unwrap();
    let filler = client(&etcd.endpoint());
    fill(&filler, 16);
    let proxy = Proxy::start(etcd.client_addr()).unwrap();
    let client = client(&proxy.endpoint());
    let mut snapshot = client.maintenance().snapshot().unwrap();
    snapshot.next().unwrap().unwrap();
    proxy.cut();
    let error = snapshot.find_map(|piece| piece.err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let text = error.to_string();
    assert!(text.starts_with("snapshot: the stream broke"), "{text}");
    assert!(text.contains("after ") && text.contains(" bytes"), "{text}");
    assert!(snapshot.next().is_none());
}

#[test]
fn closing_the_client_ends_a_snapshot() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 8);
    let mut snapshot = client.maintenance().snapshot().unwrap();
    client.close().unwrap();
    let error = snapshot.find_map(|piece| piece.err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[test]
fn an_unread_snapshot_delays_no_other_call() {
    let etcd = LocalEtcd::start().unwrap();
    let client = client(&etcd.endpoint());
    fill(&client, 32);
    // More bytes than the windows of any shared connection.
    let mut unread: Vec<_> = (0..4)
        .map(|_| client.maintenance().snapshot().unwrap())
        .collect();
    for snapshot in &mut unread {
        snapshot.next().unwrap().unwrap();
    }
    let watcher = client.watch("k").unwrap();
    for n in 0..100 {
        client.put("k", n.to_string()).unwrap();
    }
    let mut seen = 0;
    while seen < 100 {
        let response = watcher.receiver().recv_timeout(SOON).unwrap().unwrap();
        seen += response.events().len();
    }
    for snapshot in unread {
        let total = snapshot.total();
        assert_eq!(snapshot.write_to(io::sink(), |_| {}).unwrap().size, total);
    }
}

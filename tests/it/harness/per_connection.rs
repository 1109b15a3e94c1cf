//! Faults of one connection through the proxy.

use etcd_blocking::local::ProxiedConnection;

use super::*;

/// The proxied connection of a socket.
fn proxied(proxy: &Proxy, stream: &TcpStream) -> ProxiedConnection {
    let addr = stream.local_addr().unwrap();
    let mut open = proxy.open().into_iter();
    open.find(|conn| conn.client_addr() == addr).unwrap()
}

#[test]
fn the_faults_of_one_connection_do_not_affect_the_others() {
    let server = echo();
    let proxy = Proxy::start(server.addr()).unwrap();
    let (mut bad, mut good) = (dial(&proxy), dial(&proxy));
    round_trip(&mut bad, "b");
    round_trip(&mut good, "g");
    let conn = proxied(&proxy, &bad);
    assert_eq!((conn.bytes_up(), conn.bytes_down()), (1, 1));

    conn.hold(Dir::Up, true);
    bad.write_all(b"later").unwrap();
    round_trip(&mut good, "not held");
    bad.set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(bad.read(&mut [0]).is_err(), "nothing came");
    bad.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    conn.hold(Dir::Up, false);
    let mut reply = [0; 5];
    bad.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"later");

    conn.delay(Dir::Both, Duration::from_millis(100));
    let begun = Instant::now();
    round_trip(&mut bad, "slow");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    conn.delay(Dir::Both, Duration::ZERO);
    conn.throttle(Dir::Down, 10_000);
    let begun = Instant::now();
    bad.write_all(&[7; 3000]).unwrap();
    bad.read_exact(&mut [0; 3000]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(250));
    proxy.heal();
    round_trip(&mut bad, "healed");

    conn.silence(Dir::Down, true);
    let discarded = proxy.bytes_discarded();
    bad.write_all(b"lost").unwrap();
    eventually(Duration::from_secs(30), "the reply is discarded", || {
        (proxy.bytes_discarded() == discarded + 4).then_some(())
    });
    round_trip(&mut good, "not silent");
    conn.cut();
    assert!(!conn.is_open());
    assert_reset(&mut bad);
    round_trip(&mut good, "not cut");

    let conn = proxied(&proxy, &good);
    conn.black_hole(true);
    good.write_all(b"lost").unwrap();
    round_trip(&mut dial(&proxy), "not lost");
    eventually(Duration::from_secs(30), "the bytes are discarded", || {
        (proxy.bytes_discarded() == discarded + 8).then_some(())
    });
}

//! The faulty network of these tests: each fault has the documented effect.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the clippy switch for tests does not reach their functions"
)]

mod per_connection;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    pace::Pace,
    proxy::{Dir, Proxy},
    raw::{RawServer, swallow},
    wait::{Raise, cpu_time, eventually, open_fds, rss_kib, threads},
};

const SOON: Duration = Duration::from_secs(30);
/// The time in which nothing must arrive. A shorter time would not make a test fail.
const SILENCE: Duration = Duration::from_millis(100);

fn echo() -> RawServer {
    RawServer::start(|mut stream, _| {
        let mut chunk = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            if stream.write_all(&chunk[..count]).is_err() {
                return;
            }
        }
    })
}

fn dial(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

#[track_caller]
fn round_trip(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut reply = vec![0; text.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply, text.as_bytes());
}

#[track_caller]
fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let kind = stream.read(&mut [0]).unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{kind:?}"
    );
    stream.set_read_timeout(Some(SOON)).unwrap();
}

#[track_caller]
fn assert_reset(stream: &mut TcpStream) {
    assert_eq!(
        stream.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn proxy_forwards_both_directions_and_counts_bytes() {
    let server = echo();
    let proxy = Proxy::start(server.addr()).unwrap();
    let (mut one, mut two) = (dial(&proxy), dial(&proxy));
    round_trip(&mut one, "hello");
    round_trip(&mut two, "you");
    assert_eq!(
        (proxy.bytes_up(), proxy.connections(), server.connections()),
        (8, 2, 2)
    );
    assert_eq!(proxy.bytes_down(), 8);
    drop((one, two));
    eventually(SOON, "both connections end", || {
        (proxy.open_connections() == 0).then_some(())
    });
}

#[test]
fn proxy_forwards_a_half_close() {
    let server = RawServer::start(|mut stream, _| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let proxy = Proxy::start(server.addr()).unwrap();
    let mut stream = dial(&proxy);
    stream.write_all(b"all").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "ALL");
}

#[test]
fn cut_resets_old_and_new_connections_until_restore() {
    let server = echo();
    let proxy = Proxy::start(server.addr()).unwrap();
    let mut old = dial(&proxy);
    round_trip(&mut old, "a");
    proxy.cut();
    assert_reset(&mut old);
    let mut refused = TcpStream::connect(proxy.addr()).unwrap();
    assert_reset(&mut refused);
    assert_eq!(server.connections(), 1);
    proxy.restore();
    round_trip(&mut dial(&proxy), "b");
}

#[test]
fn drop_connections_resets_both_sides_and_serves_new_ones() {
    let (seen, ends) = std::sync::mpsc::channel();
    let server = RawServer::start(move |mut stream, _| {
        let error = loop {
            let mut byte = [0];
            if let Err(error) = stream.read_exact(&mut byte) {
                break error;
            }
            stream.write_all(&byte).unwrap();
        };
        seen.send(error.kind()).unwrap();
    });
    let proxy = Proxy::start(server.addr()).unwrap();
    let mut stream = dial(&proxy);
    round_trip(&mut stream, "x");
    proxy.drop_connections();
    assert_reset(&mut stream);
    assert_eq!(ends.recv_timeout(SOON).unwrap(), ErrorKind::ConnectionReset);
    round_trip(&mut dial(&proxy), "x");
}

#[test]
fn black_hole_swallows_and_keeps_connections_open() {
    let server = echo();
    let proxy = Proxy::start(server.addr()).unwrap();
    let (mut idle, mut used) = (dial(&proxy), dial(&proxy));
    round_trip(&mut idle, "a");
    round_trip(&mut used, "b");
    let up = proxy.bytes_up();
    proxy.black_hole(true);
    let mut new = dial(&proxy);
    used.write_all(b"lost").unwrap();
    new.write_all(b"lost").unwrap();
    assert_silent(&mut used);
    assert_silent(&mut new);
    assert_eq!((proxy.bytes_up(), proxy.open_connections()), (up, 3));

    proxy.black_hole(false);
    for dead in [&mut used, &mut new] {
        dead.write_all(b"more").unwrap();
        assert_silent(dead);
    }
    round_trip(&mut idle, "nothing of this one was lost");
    round_trip(&mut dial(&proxy), "c");
    drop((used, new));
    eventually(SOON, "dead connections end when closed", || {
        (proxy.open_connections() == 1).then_some(())
    });
}

#[test]
fn pause_delays_one_direction_and_loses_nothing() {
    let server = echo();
    let proxy = Proxy::start(server.addr()).unwrap();
    let mut stream = dial(&proxy);
    round_trip(&mut stream, "a");
    for dir in [Dir::Up, Dir::Down] {
        proxy.hold(dir, true);
        stream.write_all(b"held").unwrap();
        assert_silent(&mut stream);
        proxy.hold(dir, false);
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"held");
    }
}

#[test]
fn silence_drops_the_bytes_of_one_direction_only() {
    let server = echo();
    let proxy = Proxy::start(server.addr()).unwrap();
    let (mut idle, mut used) = (dial(&proxy), dial(&proxy));
    round_trip(&mut idle, "a");
    round_trip(&mut used, "b");
    let up = proxy.bytes_up();
    proxy.silence(Dir::Down, true);
    used.write_all(b"lost").unwrap();
    eventually(
        SOON,
        "bytes to the server are forwarded, and its answer is discarded",
        || ((proxy.bytes_up(), proxy.bytes_discarded()) == (up + 4, 4)).then_some(()),
    );
    assert_silent(&mut used);
    let mut new = dial(&proxy);
    new.write_all(b"lost").unwrap();
    assert_silent(&mut new);

    proxy.silence(Dir::Down, false);
    used.write_all(b"more").unwrap();
    assert_silent(&mut used);
    round_trip(&mut idle, "nothing of this one was lost");

    let (up, swallowed) = (proxy.bytes_up(), proxy.bytes_discarded());
    proxy.silence(Dir::Up, true);
    idle.write_all(b"lost").unwrap();
    eventually(SOON, "bytes to the server are discarded", || {
        (proxy.bytes_discarded() >= swallowed + 4).then_some(())
    });
    assert_eq!(proxy.bytes_up(), up);
    drop((idle, used, new));
    proxy.silence(Dir::Up, false);
    eventually(SOON, "dead connections end when closed", || {
        (proxy.open_connections() == 0).then_some(())
    });
}

#[test]
fn a_throttled_link_is_slow_and_shared_fairly_until_the_throttle_ends() {
    let server = RawServer::start(|mut stream, _| {
        // Sends as many bytes as it receives.
        let mut chunk = [0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            if stream.write_all(&chunk[..count]).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::start(server.addr()).unwrap();
    for dir in [Dir::Up, Dir::Down] {
        proxy.throttle(dir, 100_000);
        let passed = || match dir {
            Dir::Up => proxy.bytes_up(),
            _ => proxy.bytes_down(),
        };
        let (mut large, mut small) = (dial(&proxy), dial(&proxy));
        let (begun, before) = (Instant::now(), passed());
        large.write_all(&[7; 200_000]).unwrap();
        large.read_exact(&mut [0; 1000]).unwrap();
        round_trip(&mut small, "small");
        let by_then = passed() - before;
        assert!(by_then < 190_000, "{dir:?}: small waited for {by_then}");
        large.read_exact(&mut vec![0; 199_000]).unwrap();
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1900), "{dir:?}: {took:?}");

        large.write_all(&[7; 1_000_000]).unwrap();
        proxy.throttle(dir, None);
        let mut reply = vec![0; 1_000_000];
        large.read_exact(&mut reply).unwrap();
    }
}

#[test]
fn latency_delays_each_direction_and_does_not_limit_the_throughput() {
    let server = echo();
    let proxy = Proxy::start(server.addr()).unwrap();
    let mut stream = dial(&proxy);
    let latency = Duration::from_millis(60);
    proxy.delay(Dir::Both, latency);
    let start = Instant::now();
    round_trip(&mut stream, "slow");
    assert!(start.elapsed() >= 2 * latency, "{:?}", start.elapsed());

    // Far more pieces than would pass if each waited for the previous one.
    let sent: Vec<u8> = (0..1000u32).flat_map(u32::to_be_bytes).collect();
    let pace = Pace::start();
    let start = Instant::now();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn({
        let sent = sent.clone();
        move || {
            for piece in sent.chunks(40) {
                writer.write_all(piece).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let mut heard = vec![0; sent.len()];
    stream.read_exact(&mut heard).unwrap();
    pace.check("a hundred pieces on their way", start, 25 * latency);
    assert_eq!(heard, sent, "in their order");
    writing.join().unwrap();

    // Bytes in flight are lost with the connection.
    stream.write_all(b"late").unwrap();
    proxy.drop_connections();
    assert!(!matches!(stream.read(&mut [0; 4]), Ok(1..)));
}

#[test]
fn limit_data_ends_each_new_connection_after_exactly_so_many_bytes() {
    let server = RawServer::saying(b"0123456789");
    let proxy = Proxy::start(server.addr()).unwrap();
    for limit in 1..10 {
        proxy.limit_data(limit);
        let mut reply = String::new();
        dial(&proxy).read_to_string(&mut reply).unwrap();
        assert_eq!(reply.len() as u64, limit);
    }
    proxy.limit_data(None);
    dial(&proxy).read_exact(&mut [0; 10]).unwrap();
}

#[test]
fn slice_changes_the_segments_and_not_the_bytes() {
    let server = echo();
    let proxy = Proxy::start(server.addr()).unwrap();
    proxy.slice(1);
    let text: String = ('a'..='z').cycle().take(500).collect();
    round_trip(&mut dial(&proxy), &text);
}

#[test]
fn set_upstream_moves_new_connections() {
    let (one, two) = (RawServer::saying(b"1"), RawServer::saying(b"2"));
    let proxy = Proxy::start(one.addr()).unwrap();
    for (server, digit) in [(&one, b'1'), (&two, b'2')] {
        proxy.set_upstream(server.addr());
        let mut reply = [0];
        dial(&proxy).read_exact(&mut reply).unwrap();
        assert_eq!(reply, [digit]);
    }
}

#[test]
fn cut_from_resets_the_connections_of_one_client_only() {
    let server = echo();
    let proxy = Proxy::builder(server.addr())
        .identify(|head| Some(u64::from(*head.first()?)))
        .start()
        .unwrap();
    let (mut bad, mut good) = (dial(&proxy), dial(&proxy));
    round_trip(&mut bad, "b");
    round_trip(&mut good, "g");
    proxy.cut_from(u64::from(b'b'));
    assert_reset(&mut bad);
    round_trip(&mut good, "still");
    round_trip(&mut dial(&proxy), "good and new");
    let mut again = dial(&proxy);
    again.write_all(b"bad and new").unwrap();
    assert_reset(&mut again);
    proxy.restore();
    round_trip(&mut dial(&proxy), "bad no more");
}

#[test]
fn absent_upstream_resets_the_connection() {
    let nobody = RawServer::silent().addr();
    assert_reset(&mut dial(&Proxy::start(nobody).unwrap()));
}

#[test]
fn a_dropped_proxy_closes_its_connections_even_in_a_blocked_write() {
    let server = RawServer::start(|mut stream, _| while stream.write_all(&[0; 65536]).is_ok() {});
    let proxy = Proxy::start(server.addr()).unwrap();
    let unread = dial(&proxy);
    let mut last = 0;
    eventually(SOON, "the connection is full", || {
        let before = std::mem::replace(&mut last, proxy.bytes_down());
        thread::sleep(SILENCE);
        (last > 0 && before == last).then_some(())
    });
    let pace = Pace::start();
    let (addr, start) = (proxy.addr(), Instant::now());
    drop(proxy);
    pace.check("dropping it", start, Duration::from_secs(1));
    assert_eq!(
        TcpStream::connect(addr).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    drop(unread);
}

#[test]
fn dropped_raw_server_closes_its_connections() {
    let server = RawServer::start(|stream, index| {
        assert_eq!(index, 0);
        swallow(stream);
    });
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    eventually(SOON, "the connection is accepted", || {
        (server.connections() == 1).then_some(())
    });
    let pace = Pace::start();
    let start = Instant::now();
    drop(server);
    pace.check("dropping it", start, Duration::from_secs(1));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn threads_files_memory_and_cpu_of_the_process_are_measured() {
    assert!(threads() >= 2);
    assert!(open_fds() >= 3);
    assert!(rss_kib() > 1000);
    let before = cpu_time();
    eventually(SOON, "cpu time was used", || {
        let end = Instant::now() + Duration::from_millis(20);
        while Instant::now() < end {}
        (cpu_time() > before).then_some(())
    });
}

#[test]
fn pace_measures_the_delay_of_an_overloaded_machine() {
    let pace = Pace::start();
    let begun = Instant::now();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = Raise(&stop);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..3 * threads {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
            });
        }
        eventually(SOON, "a delay is recorded", || {
            let so_far = pace.delay(begun, Instant::now());
            (so_far > Duration::from_millis(100)).then_some(())
        });
        drop(done);
    });
    assert!(pace.delay(begun, Instant::now()) >= Duration::from_millis(100));
    pace.check("this test", begun, SOON);
}

#[test]
#[should_panic(expected = "not within 10ms: the moon")]
fn eventually_panics_with_the_awaited_condition() {
    eventually(Duration::from_millis(10), "the moon", || None::<()>);
}

#[test]
fn a_paused_proxy_can_be_dropped() {
    let server = RawServer::silent();
    for _ in 0..300 {
        let proxy = Proxy::start(server.addr()).unwrap();
        proxy.hold(Dir::Up, true);
        let clients = [(); 4].map(|()| {
            let mut client = dial(&proxy);
            client.write_all(b"held back").unwrap();
            client
        });
        eventually(SOON, "all bytes are received", || {
            (proxy.open_connections() == clients.len()).then_some(())
        });
        drop(proxy);
    }
}

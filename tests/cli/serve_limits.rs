//! The limits of the server of `serve`: too many clients, slow clients, and what others see of them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Put, Status};
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

use crate::program::SOON;
use crate::serve::{Reply, Server, instances, register};
use crate::support::wait::eventually;

/// The limits that the documentation names.
const CONNECTIONS: usize = 128;
const EVENT_STREAMS: usize = 64;
const REQUEST_TIME: Duration = Duration::from_secs(10);
const REPLY_TIME: Duration = Duration::from_secs(30);

/// What a slow machine may add to them.
const SLACK: Duration = Duration::from_secs(60);

/// An open event stream.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut events = Events(BufReader::new(stream));
        let host = &server.address;
        let request = format!("GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n");
        events.0.get_mut().write_all(request.as_bytes()).unwrap();
        events
    }

    /// Reads until a line of data contains the text.
    #[track_caller]
    fn until(&mut self, text: &str) {
        let mut line = String::new();
        while !(line.starts_with("data: ") && line.contains(text)) {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "no {text}");
        }
    }
}

/// The number of event streams in the metrics.
fn event_streams(server: &Server) -> usize {
    let metrics = server.get("/metrics").body;
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("etcd_service_event_streams "));
    value.unwrap().parse().unwrap()
}

#[test]
fn clients_beyond_the_limits_are_told_so_and_the_others_go_on() {
    let etcd = LocalEtcd::start().unwrap();
    let (_client, _registrar, registrations) = register(&etcd);
    let server = Server::start(&etcd, &[]);
    server.json("/v1/services/api", "three instances", |api| {
        instances(api) == 3
    });
    let mut streams: Vec<Events> = (0..EVENT_STREAMS)
        .map(|_| {
            let mut events = Events::open(&server);
            events.until("\"settings\"");
            events
        })
        .collect();
    let refused = server.get("/events");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(
        refused.body.contains("too many event streams"),
        "{refused:?}"
    );
    assert!(refused.head.contains("Retry-After"), "{refused:?}");
    assert_eq!(server.get("/").status, 200, "the page loads all the same");

    // Connections without a request end after a time, so a slow machine may need more of them.
    let mut idle = Vec::new();
    let refused = eventually(SOON, "the connections are taken", || {
        let reply = server.get("/healthz");
        if reply.status == 503 {
            return Some(reply);
        }
        idle.push(TcpStream::connect(&server.address).unwrap());
        None
    });
    assert!(refused.body.contains("too many connections"), "{refused:?}");
    assert!(refused.head.contains("Retry-After"), "{refused:?}");
    // A connection that was just answered may still have its place.
    let taken = EVENT_STREAMS + idle.len();
    assert!(taken + 8 >= CONNECTIONS, "{taken}");
    // Each of many refused clients reads the reason, and no reset.
    for _ in 0..40 {
        let reply = server.get("/healthz");
        assert!(matches!(reply.status, 503 | 200), "{reply:?}");
    }
    registrations[1]
        .modify(|i| i.status = Status::Draining)
        .unwrap();
    for events in &mut streams {
        events.until("\"draining\"");
    }
    drop(idle);
    eventually(SOON, "there is a place again", || {
        (server.get("/healthz").status == 200).then_some(())
    });
    let reopened = streams.pop();
    drop(reopened);
    // The server notices it with the next event.
    registrations[1].modify(|i| i.status = Status::Up).unwrap();
    eventually(SOON, "there is a place for a stream again", || {
        let mut events = Events::open(&server);
        let mut line = String::new();
        events.0.read_line(&mut line).unwrap();
        line.contains(" 200 ").then_some(())
    });
}

#[test]
fn a_request_that_arrives_slowly_is_refused_in_time() {
    let etcd = LocalEtcd::start().unwrap();
    let server = Server::start(&etcd, &[]);
    let begun = Instant::now();
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.set_read_timeout(Some(REQUEST_TIME + SLACK)).unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
                .unwrap();
            let mut dripping = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                while dripping.write_all(b"a").is_ok() && begun.elapsed() < REQUEST_TIME + SLACK {
                    std::thread::sleep(Duration::from_millis(200));
                }
            });
            stream
        })
        .collect();
    assert_eq!(server.get("/healthz").status, 200, "others are served");
    for mut stream in slow {
        let mut text = String::new();
        // A byte that was on its way when the server closed the connection makes a reset of its end.
        let _ = stream.read_to_string(&mut text);
        assert_eq!(Reply::parse(&text).status, 408, "{text}");
    }
    let took = begun.elapsed();
    println!("20 slow requests were refused after {took:?}");
    assert!(took >= REQUEST_TIME - Duration::from_secs(1), "{took:?}");
}

/// A connection that buffers little.
fn narrow(server: &Server) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    connect(&socket, &server.address.parse::<SocketAddr>().unwrap()).unwrap();
    socket.into()
}

/// A service whose list is larger than what sockets buffer.
fn register_much(etcd: &LocalEtcd) -> Client {
    let client = Client::connect(etcd.endpoint()).unwrap();
    let text = "x".repeat(16 << 10);
    let puts: Vec<_> = (0..1000)
        .map(|n| {
            let value = serde_json::json!({
                "service": "big", "id": n.to_string(), "addr": "127.0.0.1:9", "meta": { "text": text },
            });
            client.submit(Put::new(format!("/services/big/{n}"), value.to_string()))
        })
        .collect();
    for put in puts {
        put.wait().unwrap();
    }
    client
}

#[test]
fn a_client_that_reads_nothing_is_dropped_and_delays_nobody() {
    let etcd = LocalEtcd::start().unwrap();
    let client = register_much(&etcd);
    let server = Server::start(&etcd, &[]);
    server.json("/v1/services/big", "all instances", |big| {
        instances(big) == 1000
    });
    let begun = Instant::now();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let deaf: Vec<_> = ["/events", "/events", "/v1/services/big"]
        .map(|path| {
            let mut stream = narrow(&server);
            stream.write_all(request(path).as_bytes()).unwrap();
            stream
        })
        .into();
    eventually(SOON, "the two streams are open", || {
        (event_streams(&server) == 2).then_some(())
    });
    let mut events = Events::open(&server);
    events.until("\"settings\"");
    let put = Put::new(
        "/services/big/new",
        r#"{"service":"big","id":"new","addr":"127.0.0.1:10"}"#,
    );
    let changed = Instant::now();
    client.submit(put).wait().unwrap();
    events.until("127.0.0.1:10");
    println!("another client got a change after {:?}", changed.elapsed());
    let mut slowest = Duration::ZERO;
    eventually(REPLY_TIME + SLACK, "the deaf streams are dropped", || {
        let asked = Instant::now();
        assert_eq!(server.get("/healthz").status, 200);
        slowest = slowest.max(asked.elapsed());
        (event_streams(&server) == 1).then_some(())
    });
    let took = begun.elapsed();
    println!(
        "clients that read nothing were dropped after {took:?}; the slowest reply to others took {slowest:?}"
    );
    assert!(took >= REPLY_TIME - Duration::from_secs(1), "{took:?}");
    for mut stream in deaf {
        stream.set_read_timeout(Some(SOON)).unwrap();
        // What was buffered arrives, and then the end or a reset.
        let mut bytes = vec![0; 1 << 20];
        while stream.read(&mut bytes).is_ok_and(|length| length > 0) {}
    }
}

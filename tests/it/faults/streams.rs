//! Watch streams that end in ways that no proxy can cause.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_blocking::local::LocalEtcd;
use etcd_blocking::{Client, Revision, Watch};

use super::{SOON, secs};
use crate::support::frames::{self, END_STREAM};
use crate::support::raw::RawServer;
use crate::support::wait::eventually;

/// Encodes a field of protobuf with a number, whose key and value are below 128.
fn number(field: u8, value: u8) -> [u8; 2] {
    [field << 3, value]
}

/// Encodes a field of protobuf with bytes, of which there are fewer than 128.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2, value.len() as u8], value].concat()
}

/// The header of a reply: a cluster, a member, a revision, a term.
fn header(revision: u8) -> Vec<u8> {
    let numbers = [(1, 7), (2, 8), (3, revision), (4, 2)];
    bytes(
        1,
        &numbers.map(|(field, value)| number(field, value)).concat(),
    )
}

/// The key `k`, without its value.
fn key_modified_at(revision: u8) -> Vec<u8> {
    let numbers = [(2, 5), (3, revision), (4, 1)];
    let numbers = numbers.map(|(field, value)| number(field, value));
    [bytes(1, b"k"), numbers.concat()].concat()
}

fn send(out: &mut TcpStream, id: u32, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).unwrap();
    out.write_all(&frames::data(id, 0, &frames::message(0, length, message)))
}

/// The ways in which a server ends a watch stream.
type End = fn(&mut TcpStream, u32) -> io::Result<()>;

const ENDS: &[(&str, End)] = &[
    ("without trailers", |out, id| {
        out.write_all(&frames::data(id, END_STREAM, b""))
    }),
    ("trailers without a status", |out, id| {
        out.write_all(&frames::headers(id, END_STREAM, &[("x", "y")]))
    }),
    ("success", |out, id| {
        out.write_all(&frames::trailers(id, "0", ""))
    }),
    ("an unknown error", |out, id| {
        out.write_all(&frames::trailers(id, "2", "something"))
    }),
    ("a status that does not exist", |out, id| {
        out.write_all(&frames::trailers(id, "99", "something"))
    }),
    ("an empty message and no trailers", |out, id| {
        send(out, id, b"")?;
        out.write_all(&frames::data(id, END_STREAM, b""))
    }),
    ("half a message", |out, id| {
        let half = frames::message(0, 100, b"half");
        out.write_all(&frames::data(id, END_STREAM, &half))
    }),
    ("no protobuf", |out, id| send(out, id, &[0xff; 8])),
    ("a reset", |out, id| out.write_all(&frames::reset(id, 2))),
    ("a graceful GOAWAY", |out, id| {
        out.write_all(&frames::go_away(id, 0, ""))?;
        out.write_all(&frames::data(id, END_STREAM, b""))
    }),
];

/// A server whose watch streams have one event each, and then end by `end`. Stream n begins at revision
/// `10 + n`, and its event has the next one.
fn ending(end: End, streams: Arc<AtomicUsize>) -> RawServer {
    RawServer::start(move |stream, _| {
        let streams = Arc::clone(&streams);
        let _ = frames::serve_messages(stream, |out, id, data| {
            let revision = |n: usize| 10 + n as u8;
            match data {
                // A watch: the message within the request begins with the key `k`.
                [_, _, _, _, _, 0x0a, _, 0x0a, 1, b'k', ..] => {
                    let n = streams.fetch_add(1, Ordering::SeqCst);
                    out.write_all(&frames::ok(id))?;
                    let created = [header(revision(n)), number(3, 1).to_vec()].concat();
                    send(out, id, &created)?;
                    let modified = revision(n + 1);
                    let value = bytes(5, n.to_string().as_bytes());
                    let event = bytes(2, &[key_modified_at(modified), value].concat());
                    send(out, id, &[header(modified), bytes(11, &event)].concat())?;
                    end(out, id)
                }
                // A read of `k` at the revision of an event.
                [_, _, _, _, _, 0x0a, 1, b'k', 0x20, at, ..] => {
                    let newest = header(revision(streams.load(Ordering::SeqCst)));
                    out.write_all(&frames::ok(id))?;
                    send(out, id, &[newest, bytes(2, &key_modified_at(*at))].concat())?;
                    out.write_all(&frames::trailers(id, "0", ""))
                }
                // A read of `k`: the revision of the store.
                [_, _, _, _, _, 0x0a, 1, b'k', ..] => {
                    out.write_all(&frames::ok(id))?;
                    send(out, id, &header(revision(streams.load(Ordering::SeqCst))))?;
                    out.write_all(&frames::trailers(id, "0", ""))
                }
                // A status.
                [0, 0, 0, 0, 0] => {
                    out.write_all(&frames::ok(id))?;
                    send(out, id, &[header(1), bytes(2, b"3.7.0")].concat())?;
                    out.write_all(&frames::trailers(id, "0", ""))
                }
                _ => Ok(()),
            }
        });
    })
}

// Fault: F30
#[test]
fn a_watch_continues_however_the_server_ends_its_stream() {
    for (what, end) in ENDS {
        let streams = Arc::new(AtomicUsize::new(0));
        let server = ending(*end, Arc::clone(&streams));
        let client = Client::connect([server.endpoint()]).unwrap();
        let watcher = client
            .watch(Watch::key("k").start_revision(Revision::new(11)))
            .unwrap();
        for n in 0..3 {
            let response = watcher.recv_timeout(SOON);
            let response = response.unwrap_or_else(|late| panic!("{what}: {late}"));
            let response = response.unwrap_or_else(|error| panic!("{what}: {error}"));
            let value = n.to_string();
            assert_eq!(response.events()[0].kv().value(), &*value, "{what}");
        }
        assert!(streams.load(Ordering::SeqCst) >= 3, "{what}");
    }
}

/// The server allows a ping per minute, and the client sends one every 5 s.
// Fault: F31
#[test]
fn a_server_that_refuses_the_rate_of_pings_ends_no_watch_and_fails_no_read() {
    let etcd = LocalEtcd::builder()
        .arg("--grpc-keepalive-min-time=60s")
        .start()
        .unwrap();
    let client = Client::builder([etcd.endpoint()])
        .ping_interval(secs(5))
        .connect()
        .unwrap();
    let direct = Client::connect([etcd.endpoint()]).unwrap();
    let watcher = client.watch("k").unwrap();
    eventually(4 * SOON, "the server ends the connection", || {
        (client.metrics().watches.streams > 1).then_some(())
    });
    client.get("k").unwrap();
    for n in 0..3 {
        let put = direct.put("k", n.to_string()).unwrap();
        let response = watcher.recv_timeout(SOON).unwrap().unwrap();
        assert_eq!(response.revision(), put.revision());
    }
}

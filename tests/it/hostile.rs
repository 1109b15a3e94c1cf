//! Servers that are no etcd, broken, or hostile: every call ends by its deadline with an error that
//! says what happened and where, without a panic, and without eating memory.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::ErrorKind::{self, *};
use etcd_blocking::{Client, Error, Put};

use crate::support::child::alone;
use crate::support::frames::{self, *};
use crate::support::pace::Pace;
use crate::support::raw::{RawServer, swallow};
use crate::support::wait::{cpu_time, rss_kib};

const DEADLINE: Duration = Duration::from_millis(500);

/// What a put that failed knows about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Written {
    InDoubt,
    NotDone,
}
use Written::{InDoubt, NotDone};

type Greeting = fn(&mut TcpStream) -> io::Result<()>;
type Answer = fn(&mut TcpStream, u32) -> io::Result<()>;

/// What a server says to every connection, before any request.
const GREETINGS: &[(&str, Greeting, ErrorKind)] = &[
    ("garbage", |s| s.write_all(&[0xff; 300]), Protocol),
    ("zeroes", |s| s.write_all(&[0; 300]), Protocol),
    (
        "HTTP/1",
        |s| s.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
        Protocol,
    ),
    (
        "TLS alert",
        |s| s.write_all(&[21, 3, 1, 0, 2, 2, 70, 0, 0]),
        Protocol,
    ),
    (
        "an SSH banner",
        |s| s.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"),
        Protocol,
    ),
    ("nothing", |_| Ok(()), Timeout),
    (
        "close at once",
        |_| Err(io::ErrorKind::Other.into()),
        Unavailable,
    ),
    (
        "reset at once",
        |s| {
            reset_on_close(s);
            Err(io::ErrorKind::Other.into())
        },
        Unavailable,
    ),
    (
        "half a frame",
        |s| s.write_all(&[0, 0, 6, SETTINGS, 0, 0]),
        Timeout,
    ),
    (
        "half a frame, then close",
        |s| {
            s.write_all(&[0, 0, 6, SETTINGS])?;
            Err(io::ErrorKind::Other.into())
        },
        Unavailable,
    ),
    (
        "an oversized frame",
        |s| {
            greet(s)?;
            s.write_all(&[255, 255, 255, DATA, 0, 0, 0, 0, 1])
        },
        Protocol,
    ),
    ("settings, then nothing", greet, Timeout),
    (
        "GOAWAY",
        |s| {
            greet(s)?;
            s.write_all(&go_away(0, 0, ""))
        },
        Unavailable,
    ),
    (
        "GOAWAY, calm down",
        |s| {
            greet(s)?;
            s.write_all(&go_away(0, 11, "too_many_pings"))
        },
        Unavailable,
    ),
    (
        "data for nobody",
        |s| {
            greet(s)?;
            s.write_all(&data(1, 0, b"hello"))
        },
        Protocol,
    ),
    (
        "settings of the wrong size",
        |s| s.write_all(&frame(SETTINGS, 0, 0, &[1, 2, 3])),
        Protocol,
    ),
    (
        "frames without end",
        |s| loop {
            s.write_all(&frame(PING, ACK, 0, &[7; 8]))?
        },
        Timeout,
    ),
];

/// What a server that speaks HTTP/2 says to every request; how a read fails, and what a put knows.
const ANSWERS: &[(&str, Answer, ErrorKind, Written)] = &[
    ("nothing", |_, _| Ok(()), Timeout, InDoubt),
    (
        "close",
        |_, _| Err(io::ErrorKind::Other.into()),
        Unavailable,
        InDoubt,
    ),
    (
        "headers, then nothing",
        |s, id| s.write_all(&ok(id)),
        Timeout,
        InDoubt,
    ),
    (
        "headers, then close",
        |s, id| {
            s.write_all(&ok(id))?;
            Err(io::ErrorKind::Other.into())
        },
        Unavailable,
        InDoubt,
    ),
    (
        "headers and the end",
        |s, id| s.write_all(&headers(id, END_STREAM, &[(":status", "200")])),
        Protocol,
        InDoubt,
    ),
    (
        "a message without trailers",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&data(id, END_STREAM, &message(0, 0, b"")))
        },
        Protocol,
        InDoubt,
    ),
    (
        "half a message",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&data(id, END_STREAM, &message(0, 100, b"half")))
        },
        Protocol,
        InDoubt,
    ),
    (
        "half a message, then close",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&data(id, 0, &message(0, 100, b"half")))?;
            Err(io::ErrorKind::Other.into())
        },
        Unavailable,
        InDoubt,
    ),
    (
        "success without a message",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&trailers(id, "0", ""))
        },
        Protocol,
        InDoubt,
    ),
    (
        "no protobuf",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&data(id, 0, &message(0, 4, &[0xff; 4])))?;
            s.write_all(&trailers(id, "0", ""))
        },
        Protocol,
        InDoubt,
    ),
    (
        "a compressed message",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&data(id, 0, &message(1, 4, &[0; 4])))
        },
        Protocol,
        InDoubt,
    ),
    (
        "a flag that does not exist",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&data(id, 0, &message(9, 4, &[0; 4])))
        },
        Protocol,
        InDoubt,
    ),
    (
        "a message of 4 GiB",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&data(id, 0, &message(0, u32::MAX, &[0; 100])))
        },
        TooLarge,
        InDoubt,
    ),
    (
        "a message drop by drop",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&data(id, 0, &message(0, 60 << 20, b"")))?;
            loop {
                s.write_all(&data(id, 0, &[0; 1024]))?;
                thread::sleep(Duration::from_millis(10));
            }
        },
        Timeout,
        InDoubt,
    ),
    (
        "a thousand messages",
        |s, id| {
            s.write_all(&ok(id))?;
            // One field that nobody knows, 1,021 bytes long.
            let field = [&[0x7a, 0xfd, 0x07][..], &[0; 1021]].concat();
            s.write_all(&data(id, 0, &message(0, 1024, &field)).repeat(1000))?;
            s.write_all(&trailers(id, "0", ""))
        },
        Protocol,
        InDoubt,
    ),
    (
        "empty frames without end",
        |s, id| {
            s.write_all(&ok(id))?;
            endless(s, id, b"")
        },
        Protocol,
        InDoubt,
    ),
    (
        "headers without end",
        |s, id| {
            s.write_all(&frame(HEADERS, 0, id, &block(&[(":status", "200")])))?;
            endless_headers(s, id)
        },
        Protocol,
        InDoubt,
    ),
    (
        "headers that are too large",
        |s, id| {
            s.write_all(&headers(
                id,
                0,
                &[(":status", "200"), ("x", &"x".repeat(16_340))],
            ))
        },
        Protocol,
        InDoubt,
    ),
    (
        "no status",
        |s, id| s.write_all(&headers(id, 0, &[("content-type", "application/grpc")])),
        Protocol,
        InDoubt,
    ),
    (
        "a grpc-status that is no number",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&trailers(id, "abc", "x"))
        },
        Server,
        InDoubt,
    ),
    (
        "a grpc-status that does not exist",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&trailers(id, "99", "x"))
        },
        Server,
        InDoubt,
    ),
    (
        "a grpc-message in colour",
        |s, id| {
            s.write_all(&ok(id))?;
            s.write_all(&trailers(id, "2", &"%0A%1B[31m".repeat(900)))
        },
        Server,
        InDoubt,
    ),
    (
        "404",
        |s, id| s.write_all(&headers(id, END_STREAM, &[(":status", "404")])),
        Protocol,
        InDoubt,
    ),
    (
        "403 with a page",
        |s, id| {
            s.write_all(&headers(id, 0, &[(":status", "403")]))?;
            s.write_all(&data(id, END_STREAM, b"<html>"))
        },
        Protocol,
        InDoubt,
    ),
    (
        "503",
        |s, id| s.write_all(&headers(id, END_STREAM, &[(":status", "503")])),
        Unavailable,
        InDoubt,
    ),
    (
        "reset: internal error",
        |s, id| s.write_all(&frames::reset(id, 2)),
        Unavailable,
        InDoubt,
    ),
    (
        "reset: refused",
        |s, id| s.write_all(&frames::reset(id, 7)),
        Unavailable,
        NotDone,
    ),
    (
        "GOAWAY before the request",
        |s, id| s.write_all(&go_away(id - 1, 0, "")),
        Unavailable,
        NotDone,
    ),
    (
        "GOAWAY after it, then close",
        |s, id| {
            s.write_all(&go_away(id, 0, ""))?;
            Err(io::ErrorKind::Other.into())
        },
        Unavailable,
        InDoubt,
    ),
    (
        "an answer to nobody",
        |s, id| s.write_all(&ok(id + 100)),
        Protocol,
        InDoubt,
    ),
    (
        "a push",
        |s, id| {
            s.write_all(&frame(
                5,
                END_HEADERS,
                id,
                &[&2u32.to_be_bytes()[..], &block(&[(":method", "GET")])].concat(),
            ))
        },
        Protocol,
        InDoubt,
    ),
];

fn reset_on_close(stream: &TcpStream) {
    if let Ok(clone) = stream.try_clone() {
        let _ = tokio::net::TcpSocket::from_std_stream(clone).set_zero_linger();
    }
}

/// The same payload again and again, for as long as the client takes it.
fn endless(stream: &mut TcpStream, id: u32, payload: &[u8]) -> io::Result<()> {
    let frames = data(id, 0, payload).repeat(16_384 / (payload.len() + 9) + 1);
    loop {
        stream.write_all(&frames)?;
    }
}

fn endless_headers(stream: &mut TcpStream, id: u32) -> io::Result<()> {
    let more = frame(CONTINUATION, 0, id, &block(&[("x", &"x".repeat(1000))]));
    loop {
        stream.write_all(&more)?;
    }
}

/// Everything that holds for every error here.
#[track_caller]
fn check(
    (what, operation): (&str, &str),
    error: &Error,
    (pace, begun): (&Pace, Instant),
    endpoint: &str,
) {
    pace.check(what, begun, DEADLINE * 3);
    let text = error.to_string();
    assert!(
        text.starts_with(operation) && text.contains(endpoint),
        "{what}: {text}"
    );
    assert!(
        !text.chars().any(char::is_control) && text.len() < 8000,
        "{what}: {text}"
    );
    assert_ne!(error.kind(), Panicked, "{what}: {text}");
}

/// Reads, writes and watches on one client; returns the errors of the read and of the write, and
/// whether the machine was quick enough for them.
///
/// What can be tried again is tried until the deadline. On a machine that falls behind, that may be
/// in the middle of an attempt: no answer yet, and a write that is in doubt.
fn calls(what: &str, server: &RawServer) -> (Error, Error, bool) {
    let endpoint = server.endpoint();
    let client = Client::builder([endpoint.clone()])
        .timeout(DEADLINE)
        .connect()
        .unwrap();
    let pace = Pace::start();
    let run = |operation: &str, call: &dyn Fn() -> Error| {
        let begun = Instant::now();
        let error = call();
        check((what, operation), &error, (&pace, begun), &endpoint);
        error
    };
    let begun = Instant::now();
    let get = run("get \"k\": ", &|| client.get("k").unwrap_err());
    let put = run("put \"k\": ", &|| client.put("k", "v").unwrap_err());
    let in_time = pace.owed(begun, Instant::now()) < DEADLINE / 10;
    run("put \"k\": ", &|| {
        client.submit(Put::new("k", "v")).wait().unwrap_err()
    });
    run("grant: ", &|| {
        client.grant(Duration::from_secs(5)).unwrap_err()
    });
    // A watch has an endpoint only once it has a stream.
    let begun = Instant::now();
    let watch = client.watch("k").unwrap_err();
    assert_ne!(watch.kind(), Panicked, "{what}: {watch}");
    pace.check(what, begun, DEADLINE * 3);
    client.close().unwrap();
    (get, put, in_time)
}

#[test]
fn whatever_a_connection_begins_with_is_an_error_with_a_kind() {
    alone(
        "hostile::whatever_a_connection_begins_with_is_an_error_with_a_kind",
        Duration::from_secs(120),
        || {
            let before = rss_kib();
            let mut wrong = Vec::new();
            for (what, greeting, expected) in GREETINGS {
                let server = RawServer::start(|mut stream, _| {
                    if greeting(&mut stream).is_ok() {
                        swallow(stream);
                    }
                });
                let (get, put, in_time) = calls(what, &server);
                println!("{what}: {get:?}, {} connections", server.connections());
                let fits = |e: &Error| e.kind() == *expected || (!in_time && e.kind() == Timeout);
                if !fits(&get) || !fits(&put) || put.outcome_unknown() {
                    wrong.push(format!(
                        "{what}: not {expected:?}, or in doubt: {get:?} {put:?}"
                    ));
                }
            }
            let grown = rss_kib().saturating_sub(before) / 1024;
            println!("{grown} MiB more memory");
            assert!(wrong.is_empty(), "{wrong:#?}");
            assert!(grown < 32, "{grown} MiB");
        },
    );
}

#[test]
fn whatever_a_request_is_answered_with_is_an_error_with_a_kind() {
    alone(
        "hostile::whatever_a_request_is_answered_with_is_an_error_with_a_kind",
        Duration::from_secs(200),
        || {
            let before = rss_kib();
            let mut wrong = Vec::new();
            for (what, answer, expected, doubt) in ANSWERS {
                let requests = Arc::new(AtomicUsize::new(0));
                let counted = Arc::clone(&requests);
                let server = RawServer::start(move |stream, _| {
                    let _ = serve(stream, |stream, id| {
                        counted.fetch_add(1, Ordering::SeqCst);
                        answer(stream, id)
                    });
                });
                let busy = cpu_time();
                let (get, put, in_time) = calls(what, &server);
                let (busy, requests) = (cpu_time() - busy, requests.load(Ordering::SeqCst));
                println!("{what}: {get:?}, {requests} requests, {busy:?} of processor time");
                let late = |e: &Error| !in_time && e.kind() == Timeout;
                let fits = |e: &Error| e.kind() == *expected || late(e);
                let in_doubt = put.outcome_unknown() == (*doubt == InDoubt) || late(&put);
                if !fits(&get) || !fits(&put) || !in_doubt {
                    wrong.push(format!(
                        "{what}: not {expected:?} and {doubt:?}: {get:?} {put:?}"
                    ));
                }
                // Five calls of half a second: a storm would be thousands.
                if requests > 200 {
                    wrong.push(format!("{what}: {requests} requests"));
                }
            }
            let grown = rss_kib().saturating_sub(before) / 1024;
            println!("{grown} MiB more memory");
            assert!(wrong.is_empty(), "{wrong:#?}");
            assert!(grown < 100, "{grown} MiB");
        },
    );
}

#[test]
fn calls_that_are_answered_with_rubbish_do_not_stop_those_that_are_not() {
    // Every second request gets an answer that is none, on the same connection.
    let server = RawServer::start(|stream, _| {
        let mut n = 0;
        let _ = serve(stream, |stream, id| {
            n += 1;
            stream.write_all(&ok(id))?;
            let message = if n % 2 == 0 {
                message(0, 4, &[0xff; 4])
            } else {
                message(0, 0, b"")
            };
            stream.write_all(&data(id, 0, &message))?;
            stream.write_all(&trailers(id, "0", ""))
        });
    });
    let client = Client::builder([server.endpoint()])
        .timeout(Duration::from_secs(5))
        .connect()
        .unwrap();
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..50).map(|_| client.put("k", "v")).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let bad = results
        .iter()
        .filter(|r| r.as_ref().is_err_and(|e| e.kind() == Protocol))
        .count();
    let good = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!((good, bad, server.connections()), (200, 200, 1));
}

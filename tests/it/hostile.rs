//! Servers that are not etcd, are broken, or are hostile: every call ends by its deadline with an error
//! that names the failure and the endpoint, without a panic, and with bounded memory.

mod answers;
mod first_bytes;

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

use Written::{InDoubt, NotDone};

const DEADLINE: Duration = Duration::from_millis(500);

/// The outcome in the error of a failed put.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Written {
    InDoubt,
    NotDone,
}

/// Checks the guarantees of every error.
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

/// Reads, writes and watches with one client; returns the errors of the read and of the write, and whether the
/// machine was fast enough for them.
///
/// Attempts are repeated until the deadline. On an overloaded machine the deadline may pass during an attempt,
/// so there is no answer yet, and the outcome of a write is unknown.
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
    let in_time = pace.delay(begun, Instant::now()) < DEADLINE / 10;
    run("put \"k\": ", &|| {
        client.submit(Put::new("k", "v")).wait().unwrap_err()
    });
    run("grant: ", &|| {
        client.grant(Duration::from_secs(5)).unwrap_err()
    });
    // A watch has an endpoint only after its stream is open.
    let begun = Instant::now();
    let watch = client.watch("k").unwrap_err();
    assert_ne!(watch.kind(), Panicked, "{what}: {watch}");
    pace.check(what, begun, DEADLINE * 3);
    let begun = Instant::now();
    if let Err(error) = client.close() {
        // `close` waits for the runtime thread for 1 s, which may be short on an overloaded machine.
        let delay = pace.delay(begun, Instant::now());
        assert_eq!(error.kind(), Timeout, "{what}: {error}");
        assert!(delay > DEADLINE, "{what}: {error}; the delay was {delay:?}");
    }
    (get, put, in_time)
}

// Fault: F29
#[test]
fn malformed_replies_do_not_affect_other_calls() {
    // Every second request gets a malformed reply, on the same connection.
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

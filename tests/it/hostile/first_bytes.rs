//! Servers that are hostile from the first bytes of a connection on.

use super::*;

type FirstBytes = fn(&mut TcpStream) -> io::Result<()>;

/// The first bytes of a server on every connection, before any request.
const FIRST_BYTES: &[(&str, FirstBytes, ErrorKind)] = &[
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
        "data without a stream",
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
    (
        "pings without end",
        |s| {
            greet(s)?;
            loop {
                s.write_all(&frame(PING, 0, 0, &[7; 8]))?
            }
        },
        Timeout,
    ),
    (
        "settings without end",
        |s| loop {
            greet(s)?
        },
        Timeout,
    ),
];

// Fault: F29, F32
#[test]
fn hostile_first_bytes_are_an_error_with_a_kind() {
    alone(
        "hostile::first_bytes::hostile_first_bytes_are_an_error_with_a_kind",
        Duration::from_secs(200),
        || {
            let before = rss_kib();
            let mut wrong = Vec::new();
            for (what, send, expected) in FIRST_BYTES {
                let server = RawServer::start(|mut stream, _| {
                    if send(&mut stream).is_ok() {
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
            assert!(grown < 48, "{grown} MiB");
        },
    );
}

fn reset_on_close(stream: &TcpStream) {
    if let Ok(clone) = stream.try_clone() {
        let _ = tokio::net::TcpSocket::from_std_stream(clone).set_zero_linger();
    }
}

//! HTTP/2 servers that send hostile replies.

use super::*;

type Answer = fn(&mut TcpStream, u32) -> io::Result<()>;

/// The replies of a server that speaks HTTP/2; the kind of the read's error, and the outcome of the put.
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
            // One unknown field of 1,021 bytes.
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
        "an answer without a request",
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

/// Sends the same payload endlessly, until the connection ends.
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

// Fault: F29, F30, F32
#[test]
fn every_hostile_answer_is_an_error_with_a_kind() {
    alone(
        "hostile::answers::every_hostile_answer_is_an_error_with_a_kind",
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
                // Five calls of half a second; unlimited retries would be thousands.
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

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(30);

fn probe(port: u16, question: Question) -> Probe {
    Probe {
        host: "127.0.0.1".into(),
        port,
        question,
    }
}

fn run(probe: Probe, timeout: Duration) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(probe.run(Resolver::system(), timeout))
}

fn get(path: &str) -> Question {
    let expected = HttpExpectation {
        status: 200..=299,
        body: None,
    };
    let path = path.into();
    Question::Get { path, expected }
}

fn serving() -> Question {
    let service = String::new();
    Question::Serving { service }
}

/// A server that answers its first connection with these bytes, and returns the request.
fn answering(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, server)
}

#[test]
fn a_server_that_accepts_and_says_nothing_passes_a_tcp_check_only() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(run(probe(port, Question::Connect), LONG), Ok(()));
    for question in [get("/"), serving()] {
        let why = run(probe(port, question), SHORT).unwrap_err();
        assert_eq!(why, "connected, and no complete answer in 50ms");
    }
    drop(listener);
    let why = run(probe(port, Question::Connect), LONG).unwrap_err();
    assert!(why.contains("refused"), "{why}");
}

#[test]
fn an_http_check_sends_one_request_and_judges_the_status() {
    let (port, server) = answering("HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(run(probe(port, get("/health?x=1")), LONG), Ok(()));
    let request = server.join().unwrap();
    assert!(
        request.starts_with("GET /health?x=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains(&format!("\r\nHost: 127.0.0.1:{port}\r\n")));
    let (port, server) = answering("HTTP/1.1 500 Oops\r\n\r\n");
    assert_eq!(run(probe(port, get("/")), LONG).unwrap_err(), "status 500");
    server.join().unwrap();
}

#[test]
fn a_reply_that_stops_in_the_middle_is_a_failure_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap();
        stream
    });
    let why = run(probe(port, get("/")), SHORT).unwrap_err();
    assert!(why.contains("no complete answer"), "{why}");
    drop(server.join().unwrap());
}

#[test]
fn a_server_that_does_not_speak_http_2_fails_a_grpc_check() {
    let (port, server) = answering("HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(run(probe(port, serving()), LONG).is_err());
    server.join().unwrap();
}

#[test]
fn names_are_looked_up_and_an_unknown_name_is_a_failure_with_its_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let named = |host: &str| Probe {
        host: host.into(),
        ..probe(port, Question::Connect)
    };
    assert_eq!(run(named("localhost"), LONG), Ok(()));
    let resolver = Resolver::new(|_| Err(std::io::Error::other("no such name")));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let why = runtime.unwrap().block_on(named("x").run(resolver, LONG));
    assert_eq!(why.unwrap_err(), "no address of \"x\": no such name");
}

#[test]
fn an_ipv6_address_is_in_brackets_in_the_authority() {
    let mut probe = probe(80, Question::Connect);
    assert_eq!(probe.authority(), "127.0.0.1:80");
    probe.host = "::1".into();
    assert_eq!(probe.authority(), "[::1]:80");
}

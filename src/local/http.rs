//! Minimal HTTP client for the health, version and metrics pages of etcd.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Size limit of a reply; etcd's metrics page is about 200 KiB.
const MAX_REPLY: u64 = 4 << 20;
/// Where the head of a reply ends at the latest.
const MAX_HEAD: usize = 16 << 10;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

pub(super) fn get(addr: SocketAddr, path: &str, timeout: Duration) -> io::Result<Reply> {
    exchange(
        addr,
        &format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n"),
        timeout,
    )
}

/// Sends an HTTP/1.0 request: its reply is never chunked. It ends after the length that it states, or else with the
/// connection. etcd's peer port may close a connection 5 s late.
fn exchange(addr: SocketAddr, request: &str, timeout: Duration) -> io::Result<Reply> {
    let deadline = Instant::now() + timeout;
    let mut stream = TcpStream::connect_timeout(&addr, timeout)?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Set before each read, so that a slow server cannot extend the limit.
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A read timeout is `WouldBlock` on Unix and `TimedOut` on Windows.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        };
        reply.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if is_complete(&reply) {
            break;
        }
        if reply.len() as u64 > MAX_REPLY {
            return Err(no_http());
        }
    }
    parse(&String::from_utf8_lossy(&reply)).ok_or_else(no_http)
}

fn no_http() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the reply is not HTTP, or is longer than 4 MiB",
    )
}

/// Returns whether the reply states its length and has it.
fn is_complete(reply: &[u8]) -> bool {
    const END: &[u8] = b"\r\n\r\n";
    let start = reply.get(..MAX_HEAD).unwrap_or(reply);
    let Some(end) = start.windows(END.len()).position(|bytes| bytes == END) else {
        return false;
    };
    let (head, body) = reply.split_at(end);
    let length = String::from_utf8_lossy(head).lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() - END.len() >= length)
}

fn parse(reply: &str) -> Option<Reply> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(Reply {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
        time::Duration,
    };

    use super::{Reply, get, is_complete, parse};

    #[test]
    fn a_reply_that_states_its_length_is_returned_before_the_connection_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            assert_ne!(stream.read(&mut request).unwrap(), 0);
            stream
                .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                .unwrap();
            // Returns when the client closes the connection.
            assert!(!matches!(stream.read(&mut request), Ok(1..)));
        });
        let body = get(addr, "/version", Duration::from_secs(30)).unwrap().body;
        assert_eq!(body, "{}");
        server.join().unwrap();
    }

    #[test]
    fn a_reply_is_complete_when_it_has_the_length_that_it_states() {
        let whole = b"HTTP/1.0 200 OK\r\nDate: x\r\ncontent-length: 3\r\n\r\n{ }";
        assert!(is_complete(whole));
        for end in 0..whole.len() {
            assert!(!is_complete(&whole[..end]), "{end}");
        }
        assert!(!is_complete(b"HTTP/1.0 200 OK\r\n\r\n{}"));
        assert!(!is_complete(
            b"HTTP/1.0 200 OK\r\nContent-Length: x\r\n\r\n{}"
        ));
    }

    #[test]
    fn a_reply_has_a_status_and_a_body() {
        let reply =
            parse("HTTP/1.0 503 Service Unavailable\r\nDate: x\r\n\r\n{\"health\":\"false\"}");
        assert_eq!(
            reply,
            Some(Reply {
                status: 503,
                body: "{\"health\":\"false\"}".into()
            })
        );
    }

    #[test]
    fn text_that_is_not_http_is_an_error() {
        for bytes in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
        ] {
            assert_eq!(parse(bytes), None, "{bytes:?}");
        }
    }
}

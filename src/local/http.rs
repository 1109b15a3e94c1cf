//! Minimal HTTP client for the health and metrics pages of etcd.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Size limit of a reply; etcd's metrics page is about 200 KiB.
const MAX_REPLY: u64 = 4 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

pub(super) fn get(addr: SocketAddr, path: &str, timeout: Duration) -> io::Result<Reply> {
    exchange(
        addr,
        // HTTP/1.0: the server closes the connection after the reply, and sends no chunks.
        &format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n"),
        timeout,
    )
}

/// Sends an HTTP/1.0 request: its reply is never chunked and ends with the connection.
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
            Ok(0) => return parse(&String::from_utf8_lossy(&reply)).ok_or_else(no_http),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A read timeout is `WouldBlock` on Unix and `TimedOut` on Windows.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        };
        reply.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if reply.len() as u64 > MAX_REPLY {
            return Err(no_http());
        }
    }
}

fn no_http() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the reply is not HTTP, or is longer than 4 MiB",
    )
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
    use super::{Reply, parse};

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

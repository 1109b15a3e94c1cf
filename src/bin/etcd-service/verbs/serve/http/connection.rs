//! One connection of a client, with a limit for the time that it takes.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::request::{BadRequest, LONGEST_HEAD, Request};
use super::response::{Response, head};
use super::transport::{Encryption, NotEncrypted, TimedSocket, Transport};

/// The limits of a connection in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// For the handshake of TLS and the request together.
    pub(super) request: Duration,
    /// For the client to read a reply, and for it to read a part of an event stream.
    pub(super) reply: Duration,
}

/// The limits of every client.
pub(super) const TIMES: Times = Times {
    request: Duration::from_secs(10),
    reply: Duration::from_secs(30),
};

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Box<dyn Transport>,
    times: Times,
    /// The end of the time for the request.
    until: Instant,
}

impl Connection {
    /// Runs the handshake, if there is encryption. `None` if it failed.
    pub(super) fn open(
        stream: TcpStream,
        encryption: Option<&dyn Encryption>,
        times: Times,
    ) -> Option<Self> {
        let until = Instant::now() + times.request;
        let socket = TimedSocket::new(stream, until);
        let with = |transport| Connection {
            transport,
            times,
            until,
        };
        let Some(encryption) = encryption else {
            return Some(with(Box::new(socket)));
        };
        match encryption.handshake(socket) {
            Ok(transport) => Some(with(transport)),
            Err(NotEncrypted::Plain(socket)) => {
                let text = "this port speaks HTTPS only";
                with(Box::new(socket)).reply(&Response::error(400, text), false);
                None
            }
            Err(NotEncrypted::Failed(mut socket)) => {
                socket.close();
                None
            }
        }
    }

    /// Reads the request. `None` if the client sent nothing, or is gone.
    pub(super) fn request(&mut self) -> Option<Result<Request, BadRequest>> {
        let mut bytes = Vec::new();
        loop {
            match Request::parse(&bytes) {
                Ok(Some((mut request, length))) => {
                    let mut body = bytes.split_off(length);
                    if request.expects_continue && body.len() < request.body_length {
                        self.write(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
                    }
                    while body.len() < request.body_length {
                        match self.read(&mut body) {
                            Ok(0) => return None,
                            Ok(_) => {}
                            Err(error) => return too_slow(&error),
                        }
                    }
                    body.truncate(request.body_length);
                    request.body = body;
                    return Some(Ok(request));
                }
                Ok(None) => {}
                Err(bad) => return Some(Err(bad)),
            }
            match self.read(&mut bytes) {
                Ok(0) => return None,
                Ok(_) => {}
                // A browser opens connections before it needs them: no request, no reply.
                Err(_) if bytes.is_empty() => return None,
                Err(error) => return too_slow(&error),
            }
        }
    }

    fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.transport.socket().set_deadline(self.until);
        let mut part = [0; 4096];
        let length = self.transport.read(&mut part)?;
        let limit = LONGEST_HEAD.saturating_add(part.len());
        bytes.extend_from_slice(part.get(..length).unwrap_or_default());
        match bytes.len() > limit {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(length),
        }
    }

    /// Writes everything, or fails after a time that does not depend on how slowly the client reads.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let until = Instant::now() + self.times.reply;
        self.transport.socket().set_deadline(until);
        self.transport.write_all(bytes)?;
        self.transport.flush()
    }

    /// Writes a reply, and ends the connection.
    pub(crate) fn reply(mut self, response: &Response, is_head: bool) {
        // A client that is gone needs no reply, and nobody needs to know.
        if self.write(&response.encode(is_head)).is_ok() {
            self.end();
        }
    }

    /// Ends the connection after what was written.
    pub(crate) fn end(mut self) {
        if self.transport.finish().is_ok() {
            self.transport.socket().close();
        }
    }

    /// Begins an event stream.
    pub(crate) fn begin_stream(&mut self, is_head: bool) -> io::Result<()> {
        let mut head = head(200, "text/event-stream", &[("X-Accel-Buffering", "no")]);
        head.push_str("\r\n");
        self.write(head.as_bytes())?;
        match is_head {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }

    /// Writes a part of an event stream.
    pub(crate) fn send(&mut self, text: &str) -> io::Result<()> {
        self.write(text.as_bytes())
    }
}

fn too_slow(error: &io::Error) -> Option<Result<Request, BadRequest>> {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            Some(Err(BadRequest(408, "the request did not arrive in time")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Far above what a slow machine needs.
    const SOON: Duration = Duration::from_secs(30);

    fn pair(times: Times) -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, Connection::open(server, None, times).unwrap())
    }

    #[test]
    fn a_request_that_arrives_byte_by_byte_is_refused_at_its_deadline() {
        let times = Times {
            request: Duration::from_millis(300),
            reply: SOON,
        };
        let (mut client, mut connection) = pair(times);
        let begun = Instant::now();
        let drip = thread::spawn(move || {
            // Each byte comes long before a timeout of one read.
            let _ = client.write_all(b"GET / HTTP/1.1\r\nX: ");
            while client.write_all(b"x").is_ok() && begun.elapsed() < SOON {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let refused = connection.request().unwrap().unwrap_err();
        assert_eq!(refused.0, 408);
        assert!(begun.elapsed() >= times.request);
        drop(connection);
        drip.join().unwrap();
        assert!(begun.elapsed() < SOON, "the client was not dropped");
    }

    #[test]
    fn a_reply_that_nobody_reads_ends_at_its_deadline() {
        let times = Times {
            request: SOON,
            reply: Duration::from_millis(300),
        };
        let (mut client, mut connection) = pair(times);
        let begun = Instant::now();
        // Some bytes are read, and the deadline does not move.
        let drip = thread::spawn(move || {
            let mut part = [0; 512];
            while client.read(&mut part).is_ok_and(|length| length > 0) {
                if begun.elapsed() > SOON {
                    return false;
                }
                thread::sleep(Duration::from_millis(5));
            }
            true
        });
        // More than the buffers of both sockets.
        let text = "x".repeat(64 << 20);
        assert!(connection.send(&text).is_err());
        assert!(begun.elapsed() >= times.reply);
        drop(connection);
        // What is in the buffers is read slowly; the test does not wait for that.
        drop(drip);
    }
}

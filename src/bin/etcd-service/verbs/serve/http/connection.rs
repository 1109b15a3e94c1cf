//! One connection of a client, with a limit for the time that it takes.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::request::{BadRequest, LONGEST_HEAD, Request};
use super::response::{Response, head};

/// The time in which a client has sent its request.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// The time in which a client has read a reply, and the time in which it has read a part of an event stream.
const REPLY_TIME: Duration = Duration::from_secs(30);

/// The time for which the rest of a refused request is read, so that the client sees the reply and no reset.
const LINGER: Duration = Duration::from_millis(500);

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        // The replies are written at once; without Nagle's algorithm they also leave at once.
        let _ = stream.set_nodelay(true);
        Connection { stream }
    }

    /// Reads the request. `None` if the client sent nothing, or is gone.
    pub(super) fn request(&mut self) -> Option<Result<Request, BadRequest>> {
        let until = Instant::now() + REQUEST_TIME;
        let mut bytes = Vec::new();
        loop {
            match Request::parse(&bytes) {
                Ok(Some((mut request, length))) => {
                    let mut body = bytes.split_off(length);
                    if request.expects_continue && body.len() < request.body_length {
                        self.write(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
                    }
                    while body.len() < request.body_length {
                        match self.read(&mut body, until) {
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
            match self.read(&mut bytes, until) {
                Ok(0) => return None,
                Ok(_) => {}
                // A browser opens connections before it needs them: no request, no reply.
                Err(_) if bytes.is_empty() => return None,
                Err(error) => return too_slow(&error),
            }
        }
    }

    fn read(&mut self, bytes: &mut Vec<u8>, until: Instant) -> io::Result<usize> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut part = [0; 4096];
        let length = self.stream.read(&mut part)?;
        let limit = LONGEST_HEAD.saturating_add(part.len());
        bytes.extend_from_slice(part.get(..length).unwrap_or_default());
        match bytes.len() > limit {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(length),
        }
    }

    /// Writes everything, or fails after a time that does not depend on how slowly the client reads.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let until = Instant::now() + REPLY_TIME;
        while !bytes.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a reply, and ends the connection.
    pub(crate) fn reply(mut self, response: &Response, is_head: bool) {
        // A client that is gone needs no reply, and nobody needs to know.
        if self.write(&response.encode(is_head)).is_err() {
            return;
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        let until = Instant::now() + LINGER;
        let mut rest = Vec::new();
        while self.read(&mut rest, until).is_ok_and(|length| length > 0) {}
    }

    /// Writes a short reply if that needs no wait.
    pub(super) fn refuse(&mut self, response: &Response) {
        if self.stream.set_nonblocking(true).is_ok() {
            let _ = self.stream.write(&response.encode(false));
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

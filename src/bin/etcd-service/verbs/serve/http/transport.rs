//! What a connection reads and writes: a socket with a deadline, or a layer of encryption on one.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// The time for which the rest of a refused request is read, so that the client sees the reply and no reset.
const LINGER: Duration = Duration::from_millis(500);

/// The bytes of a connection.
pub(crate) trait Transport: Read + Write + Send + Debug {
    /// The socket underneath.
    fn socket(&mut self) -> &mut TimedSocket;

    /// Tells the client that nothing more comes, if the layer has a message for that.
    fn finish(&mut self) -> io::Result<()>;
}

/// Makes encrypted transports.
pub(crate) trait Encryption: Send + Sync {
    /// Runs the handshake until the deadline of the socket.
    fn handshake(&self, socket: TimedSocket) -> Result<Box<dyn Transport>, NotEncrypted>;
}

/// Why there is no encrypted transport.
#[cfg_attr(
    not(feature = "__tls"),
    expect(dead_code, reason = "only TLS has a handshake")
)]
#[derive(Debug)]
pub(crate) enum NotEncrypted {
    /// The client speaks plain HTTP. Nothing was read.
    Plain(TimedSocket),
    /// The handshake failed, and the client was told why as far as that is possible.
    Failed(TimedSocket),
}

/// A socket whose reads and writes fail after a deadline, however small their parts are.
#[derive(Debug)]
pub(crate) struct TimedSocket {
    stream: TcpStream,
    until: Instant,
}

impl TimedSocket {
    pub(super) fn new(stream: TcpStream, until: Instant) -> Self {
        // Replies are written at once; without Nagle's algorithm they also leave at once.
        let _ = stream.set_nodelay(true);
        TimedSocket { stream, until }
    }

    pub(super) fn set_deadline(&mut self, until: Instant) {
        self.until = until;
    }

    /// The first byte, which stays unread. `None` at the end.
    #[cfg(feature = "__tls")]
    pub(crate) fn peek(&self) -> io::Result<Option<u8>> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let mut byte = [0];
        let length = self.stream.peek(&mut byte)?;
        Ok(byte.first().copied().filter(|_| length > 0))
    }

    /// Ends the connection, and reads what the client still sends for a short time.
    pub(super) fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.until = Instant::now() + LINGER;
        let mut part = [0; 4096];
        while self.read(&mut part).is_ok_and(|length| length > 0) {}
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }
}

impl Read for TimedSocket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(bytes)
    }
}

impl Write for TimedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Without encryption.
impl Transport for TimedSocket {
    fn socket(&mut self) -> &mut TimedSocket {
        self
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! One connection through a proxy: two sockets and their state.

use std::{
    io::{ErrorKind, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    delay_line::DelayLine,
    faults::{Each, Faults, Way},
};
use crate::util::atomic::AtomicU64;

/// A connection from a client, with the matching connection to the server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: TcpStream,
    pub(super) client_addr: SocketAddr,
    pub(super) server: OnceLock<TcpStream>,
    /// The dialler, once it is identified; 0 before.
    pub(super) from: AtomicU64,
    /// Whether bytes were discarded, so later bytes must not be forwarded.
    pub(super) lost: AtomicBool,
    /// Whether bytes of one direction were discarded.
    pub(super) silenced: Each<AtomicBool>,
    pub(super) closed: AtomicBool,
    /// After so many bytes from the server it is closed.
    pub(super) limit: Option<u64>,
    pub(super) forwarded: Each<AtomicU64>,
    /// Bytes in flight, by direction.
    pub(super) lines: Each<DelayLine>,
    /// The faults of this connection. They change under the lock of the proxy's switches only.
    pub(super) faults: Mutex<Faults>,
}

impl Connection {
    pub(super) fn new(
        client: TcpStream,
        client_addr: SocketAddr,
        lost: bool,
        limit: Option<u64>,
    ) -> Self {
        Connection {
            client,
            client_addr,
            server: OnceLock::new(),
            from: AtomicU64::default(),
            lost: AtomicBool::new(lost),
            silenced: Each::default(),
            closed: AtomicBool::new(false),
            limit,
            forwarded: Each::default(),
            lines: Each::default(),
            faults: Mutex::default(),
        }
    }

    /// Writes all bytes; returns `false` when the connection is closed.
    pub(super) fn write(&self, mut to: &TcpStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.closed.load(Ordering::SeqCst) {
                return false;
            }
            match to.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return false,
                },
            }
        }
        true
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.lines.iter().for_each(DelayLine::close);
    }

    fn streams(&self) -> impl Iterator<Item = &TcpStream> {
        std::iter::once(&self.client).chain(self.server.get())
    }

    pub(super) fn has_lost(&self, way: Way) -> bool {
        let silenced = self.silenced.of(way);
        self.lost.load(Ordering::SeqCst) || silenced.load(Ordering::SeqCst)
    }

    /// Makes both sockets send RST when their last handle is dropped.
    pub(super) fn reset(&self) {
        self.close();
        for stream in self.streams() {
            reset_on_close(stream);
            // Wakes readers; other kinds of shutdown would notify the peer too early.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Closes both sockets gracefully, so written bytes arrive.
    pub(super) fn finish(&self) {
        self.close();
        for stream in self.streams() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Sets SO_LINGER to 0, which std does not support yet.
fn reset_on_close(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

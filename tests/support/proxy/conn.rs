//! One connection through the proxy: two sockets and their state.

use std::{
    io::{ErrorKind, Write},
    net::{Shutdown, TcpStream},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{Dir, delay_line::DelayLine};

/// A connection from a client, with the matching connection to the server.
#[derive(Debug)]
pub struct Conn {
    pub client: TcpStream,
    pub server: OnceLock<TcpStream>,
    /// The id of the dialling member; 0 if unknown.
    pub from: AtomicU64,
    /// Whether bytes were discarded, so later bytes must not be forwarded.
    pub lost: AtomicBool,
    /// Whether bytes of one direction were discarded.
    pub silenced: [AtomicBool; 2],
    pub closed: AtomicBool,
    pub limit: Option<u64>,
    /// Bytes in flight, by direction.
    pub lines: [DelayLine; 2],
}

impl Conn {
    /// Writes all bytes; returns `false` when the connection is closed.
    pub fn write(&self, mut to: &TcpStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.closed.load(Ordering::SeqCst) {
                return false;
            }
            match to.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
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
        for line in &self.lines {
            line.close();
        }
    }

    fn streams(&self) -> impl Iterator<Item = &TcpStream> {
        std::iter::once(&self.client).chain(self.server.get())
    }

    pub fn has_lost(&self, dir: Dir) -> bool {
        let silenced = &self.silenced[dir as usize];
        self.lost.load(Ordering::SeqCst) || silenced.load(Ordering::SeqCst)
    }

    /// Makes both sockets send RST when their last handle is dropped.
    pub fn reset(&self) {
        self.close();
        for stream in self.streams() {
            reset_on_close(stream);
            // Wakes readers; other kinds of shutdown would notify the peer too early.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Closes both sockets gracefully, so written bytes arrive.
    pub fn finish(&self) {
        self.close();
        for stream in self.streams() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Sets SO_LINGER to 0, which std does not support yet. tokio's socket needs no runtime for it.
fn reset_on_close(stream: &TcpStream) {
    if let Ok(clone) = stream.try_clone() {
        let _ = tokio::net::TcpSocket::from_std_stream(clone).set_zero_linger();
    }
}

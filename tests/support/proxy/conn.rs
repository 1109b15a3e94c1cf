//! One connection through the proxy: two sockets, and what is known of them.

use std::{
    io::{ErrorKind, Write},
    net::{Shutdown, TcpStream},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{Dir, delay_line::DelayLine};

/// A connection from a client, and the one to the server.
#[derive(Debug)]
pub struct Conn {
    pub client: TcpStream,
    pub server: OnceLock<TcpStream>,
    /// Who dials, as far as known; 0 is unknown.
    pub from: AtomicU64,
    /// Something was swallowed: what comes later would make no sense to the receiver.
    pub lost: AtomicBool,
    /// The same for one direction.
    pub silenced: [AtomicBool; 2],
    pub closed: AtomicBool,
    pub limit: Option<u64>,
    /// What is on its way, by direction.
    pub lines: [DelayLine; 2],
}

impl Conn {
    /// Writes all, and gives up when the connection is closed meanwhile.
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

    /// Has both sockets send RST once nobody holds them.
    pub fn reset(&self) {
        self.close();
        for stream in self.streams() {
            reset_on_close(stream);
            // Wakes whoever reads, and unlike the other kinds of shutdown tells the peer nothing
            // yet.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Ends both sockets in good order: what was written arrives.
    pub fn finish(&self) {
        self.close();
        for stream in self.streams() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// SO_LINGER of 0, which std does not offer yet. tokio's socket is a plain wrapper and needs no
/// runtime.
fn reset_on_close(stream: &TcpStream) {
    if let Ok(clone) = stream.try_clone() {
        let _ = tokio::net::TcpSocket::from_std_stream(clone).set_zero_linger();
    }
}

//! Free ports of 127.0.0.1 that a server can listen on again after a restart.
//!
//! Each process reserves blocks of ports and uses only those, so a server that is stopped for a while keeps its
//! port: no server of another process takes it meanwhile and answers in its place.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// The range lies below the ephemeral ranges of Linux (32768..) and macOS (49152..): the kernel never
/// assigns such a port to an outgoing connection, so it is still free after a server was down.
const FIRST: u16 = 20_000;
/// The number of ports in a block. The first one is not used: the process that listens on it has reserved the block.
const BLOCK: u16 = 50;
const BLOCKS: u16 = 240;
/// The maximum number of blocks of one process. It then uses its ports again, the oldest first.
const MAX_BLOCKS: usize = 20;

/// Returns the next free port of 127.0.0.1.
///
/// No port is returned twice before 980 others were returned, so a client that still dials a stopped server
/// does not reach a new one. A program that does not use this module may take the port before it is used; the
/// caller then asks for the next one ([`retry_taken`]).
pub(super) fn free() -> io::Result<SocketAddr> {
    static PORTS: Mutex<Ports> = Mutex::new(Ports::new());
    PORTS.lock().unwrap_or_else(PoisonError::into_inner).free()
}

/// A port that nothing else takes while this value exists, also when the server is not running.
///
/// Some systems assign ports from 16,000 on to outgoing connections. Linux does not assign a port to which a socket is
/// bound. The socket does not listen: connections to the port are refused until a server listens on it.
/// On other systems this does nothing, because a second socket could not be bound there.
#[derive(Debug)]
pub(super) struct Reserved {
    #[cfg(target_os = "linux")]
    _socket: rustix::fd::OwnedFd,
}

impl Reserved {
    #[cfg(target_os = "linux")]
    pub(super) fn new(addr: SocketAddr) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
        let family = if addr.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Go and Rust set this option on sockets that listen, too; Linux then allows both on one port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &addr)?;
        Ok(Self { _socket: socket })
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
    pub(super) fn new(_: SocketAddr) -> io::Result<Self> {
        Ok(Self {})
    }
}

/// The ports of one process.
struct Ports {
    /// The reserved blocks; dropping a listener releases its block.
    blocks: Vec<(u16, TcpListener)>,
    /// The index in `blocks` of the block that is in use, and the last port of it that was returned.
    block: usize,
    last: u16,
}

impl Ports {
    const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            block: 0,
            last: 0,
        }
    }

    fn free(&mut self) -> io::Result<SocketAddr> {
        for _ in 0..MAX_BLOCKS * usize::from(BLOCK) {
            let addr = self.next()?;
            if TcpListener::bind(addr).is_ok() {
                return Ok(addr);
            }
        }
        Err(in_use("all ports of this process are in use"))
    }

    fn next(&mut self) -> io::Result<SocketAddr> {
        if self.blocks.is_empty() || self.last + 1 == BLOCK {
            self.next_block()?;
        }
        self.last += 1;
        let (block, _) = self
            .blocks
            .get(self.block)
            .ok_or_else(|| in_use("no block of ports is reserved"))?;
        Ok(addr(block * BLOCK + self.last))
    }

    /// Begins a block: a new one, or an old one of this process when it has the maximum or no other is free.
    fn next_block(&mut self) -> io::Result<()> {
        let reserved = (self.blocks.len() < MAX_BLOCKS).then(reserve).flatten();
        if let Some(reserved) = reserved {
            self.block = self.blocks.len();
            self.blocks.push(reserved);
        } else if self.blocks.is_empty() {
            return Err(in_use("other processes have reserved all blocks of ports"));
        } else {
            self.block = (self.block + 1) % self.blocks.len();
        }
        self.last = 0;
        Ok(())
    }
}

/// Reserves a block that no process has reserved; the search begins at a random one.
fn reserve() -> Option<(u16, TcpListener)> {
    // `RandomState` is seeded from system randomness; the remainder is below BLOCKS and fits in a u16.
    let random = RandomState::new().hash_one(0_u8) % u64::from(BLOCKS);
    let first = u16::try_from(random).unwrap_or_default();
    (0..BLOCKS).find_map(|offset| {
        let block = (first + offset) % BLOCKS;
        let listener = TcpListener::bind(addr(block * BLOCK)).ok()?;
        Some((block, listener))
    })
}

fn addr(offset: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset))
}

fn in_use(what: &str) -> io::Error {
    let end = FIRST + BLOCK * BLOCKS;
    io::Error::new(io::ErrorKind::AddrInUse, format!("{what} ({FIRST}..{end})"))
}

/// The maximum number of starts when other processes keep taking the ports.
const ATTEMPTS: usize = 5;

/// Repeats a start on other ports while it fails because another process has taken one of them.
pub(super) fn retry_taken<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut attempt = 1;
    loop {
        match start() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => {
                attempt += 1
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::TcpListener, thread};
    #[cfg(target_os = "linux")]
    use std::{io, net::TcpStream};

    #[cfg(target_os = "linux")]
    use rustix::{
        io::Errno,
        net::{AddressFamily, SocketType, bind, socket},
    };

    #[cfg(target_os = "linux")]
    use super::Reserved;

    use super::{BLOCK, MAX_BLOCKS, Ports};

    #[test]
    fn concurrent_threads_get_different_ports() {
        let threads: Vec<_> = (0..8)
            .map(|_| thread::spawn(|| (0..20).map(|_| super::free().unwrap()).collect::<Vec<_>>()))
            .collect();
        let ports: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 160);
    }

    #[test]
    fn a_port_in_use_is_skipped() {
        let mut ports = Ports::new();
        let mut taken = HashSet::new();
        let mut held = Vec::new();
        // The ports that come next are taken by a program that reserves nothing.
        let begun = ports.free().unwrap();
        for next in 1..=20 {
            let mut addr = begun;
            addr.set_port(begun.port() + next);
            held.extend(TcpListener::bind(addr).ok());
            taken.insert(addr);
        }
        assert!((0..20).all(|_| !taken.contains(&ports.free().unwrap())));
    }

    #[test]
    fn processes_that_run_at_the_same_time_never_share_a_port() {
        // Each `Ports` reserves as a process does.
        let mut processes = [Ports::new(), Ports::new(), Ports::new()];
        let mut seen = [HashSet::new(), HashSet::new(), HashSet::new()];
        for _ in 0..3 * BLOCK {
            for (ports, seen) in processes.iter_mut().zip(&mut seen) {
                seen.insert(ports.free().unwrap());
            }
        }
        let all: HashSet<_> = seen.iter().flatten().collect();
        assert_eq!(all.len(), seen.iter().map(HashSet::len).sum::<usize>());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_reserved_port_refuses_connections_and_can_be_listened_on_again_and_again() {
        let addr = super::free().unwrap();
        let _reserved = Reserved::new(addr).unwrap();
        // A connection would be assigned a port as this socket is: without the option.
        let unrelated = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        assert_eq!(bind(&unrelated, &addr), Err(Errno::ADDRINUSE));
        for _ in 0..3 {
            let refused = TcpStream::connect(addr).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(addr).unwrap();
            let (_client, _server) = (TcpStream::connect(addr).unwrap(), listener.accept());
        }
    }

    #[test]
    fn ports_are_used_again_in_order_after_the_maximum() {
        let mut ports = Ports::new();
        let first: Vec<_> = (0..MAX_BLOCKS * usize::from(BLOCK - 1))
            .map(|_| ports.next().unwrap())
            .collect();
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), first.len());
        assert_eq!(ports.blocks.len(), MAX_BLOCKS);
        let again: Vec<_> = first.iter().map(|_| ports.next().unwrap()).collect();
        assert_eq!(again, first);
    }
}

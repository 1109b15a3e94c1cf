//! Free ports of 127.0.0.1 that a server can listen on again after a restart.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// The range lies below the ephemeral ranges of Linux (32768..) and macOS (49152..): the kernel never
/// assigns such a port to an outgoing connection, so it is still free after a server was down.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Returns the next free port of 127.0.0.1; each process begins at a random position of the range.
///
/// No port is returned twice before all others were returned, so a client that still dials a stopped
/// server does not reach a new one. Another process may take the port before it is used; the caller then
/// asks for the next one ([`retry_taken`]).
pub(super) fn free() -> io::Result<SocketAddr> {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut offset = next.unwrap_or_else(random_offset);
    for _ in 0..COUNT {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset));
        offset = (offset + 1) % COUNT;
        *next = Some(offset);
        if TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no free port in {FIRST}..{}", FIRST + COUNT),
    ))
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

fn random_offset() -> u16 {
    // `RandomState` is seeded from system randomness; the remainder is below COUNT and fits in a u16.
    u16::try_from(RandomState::new().hash_one(0_u8) % u64::from(COUNT)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    #[test]
    fn concurrent_threads_get_different_ports() {
        let threads: Vec<_> = (0..8)
            .map(|_| thread::spawn(|| (0..50).map(|_| super::free().unwrap()).collect::<Vec<_>>()))
            .collect();
        let ports: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 400);
    }

    #[test]
    fn a_port_in_use_is_skipped() {
        let held: Vec<_> = (0..20)
            .filter_map(|_| std::net::TcpListener::bind(super::free().unwrap()).ok())
            .collect();
        let taken: HashSet<_> = held
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        assert!((0..20).all(|_| !taken.contains(&super::free().unwrap())));
    }
}

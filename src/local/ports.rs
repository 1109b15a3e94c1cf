//! Ports for servers that must be able to come back on the same port.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// Below the ephemeral ranges of Linux (32768..) and macOS (49152..): the kernel never gives such a
/// port to an outgoing connection, so a server that is down for a while finds its port still free.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// The next free port of 127.0.0.1, at another place of the range in each process.
///
/// A port is handed out once before any is handed out twice, so what still dials a server that is
/// gone does not reach its successor. Another process may take the port before it is used; the
/// caller must be ready to ask for the next.
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

fn random_offset() -> u16 {
    // A `RandomState` is seeded from the system's randomness; the remainder is below COUNT, so it
    // fits.
    u16::try_from(RandomState::new().hash_one(0_u8) % u64::from(COUNT)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    #[test]
    fn no_port_is_handed_out_twice_to_threads_that_ask_at_once() {
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
    fn a_port_that_is_listened_on_is_passed_over() {
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

//! The switches of a proxy, which its threads read.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    connection::Connection,
    faults::{Each, Faults},
};
use crate::util::atomic::AtomicU64;

/// Identifies the dialler from the first bytes that it sends.
pub(super) type Identify = dyn Fn(&[u8]) -> Option<u64> + Send + Sync;

/// How long a reset waits until both sockets of a connection are closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Shared {
    pub(super) switches: Mutex<Switches>,
    /// Notified of each change of the switches, and of the faults of connections.
    pub(super) changed: Condvar,
    pub(super) identify: Box<Identify>,
    pub(super) accepted: AtomicUsize,
    pub(super) forwarded: Each<AtomicU64>,
    pub(super) discarded: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Switches {
    pub(super) upstream: SocketAddr,
    pub(super) closing: bool,
    pub(super) cut: bool,
    pub(super) cut_from: Vec<u64>,
    pub(super) faults: Faults,
    pub(super) limit: Option<u64>,
    pub(super) slice: usize,
    pub(super) open: Vec<Arc<Connection>>,
}

impl Shared {
    pub(super) fn new(upstream: SocketAddr, identify: Box<Identify>) -> Arc<Self> {
        Arc::new(Shared {
            switches: Mutex::new(Switches {
                upstream,
                closing: false,
                cut: false,
                cut_from: Vec::new(),
                faults: Faults::default(),
                limit: None,
                slice: usize::MAX,
                open: Vec::new(),
            }),
            changed: Condvar::new(),
            identify,
            accepted: AtomicUsize::new(0),
            forwarded: Each::default(),
            discarded: AtomicU64::default(),
        })
    }

    /// Changes the switches and wakes all threads that wait for a change.
    pub(super) fn set(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.switches.lock());
        self.changed.notify_all();
    }

    /// Resets the connections for which `which` holds, and waits until their sockets are closed.
    pub(super) fn close_where(&self, which: impl Fn(&Connection) -> bool) {
        let mut switches = self.switches.lock();
        let closed: Vec<_> = switches.open.extract_if(.., |conn| which(conn)).collect();
        drop(switches);
        for conn in &closed {
            conn.reset();
        }
        // Notify under the lock, or a thread between its check and its wait would miss it.
        self.set(|_| ());
        // The sockets close when the threads of the connection have dropped it.
        let deadline = Instant::now() + CLOSE_WITHIN;
        while closed.iter().any(|conn| Arc::strong_count(conn) > 1) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("switches", &self.switches)
            .finish_non_exhaustive()
    }
}

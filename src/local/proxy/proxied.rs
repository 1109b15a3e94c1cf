//! The handle of one connection through a proxy.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak, atomic::Ordering::SeqCst},
    time::Duration,
};

use super::{
    connection::Connection,
    faults::{Direction, Faults, Way},
    link::Link,
    shared::Shared,
};

/// One connection through a [`Proxy`](super::Proxy), to inject faults into it alone. Returned by
/// [`Proxy::open`](super::Proxy::open).
///
/// Its faults are in addition to those of the proxy. They have no effect after the connection has ended.
#[derive(Clone, Debug)]
pub struct ProxiedConnection {
    shared: Weak<Shared>,
    conn: Weak<Connection>,
    client_addr: SocketAddr,
}

impl ProxiedConnection {
    pub(super) fn new(shared: &Arc<Shared>, conn: &Arc<Connection>) -> Self {
        ProxiedConnection {
            shared: Arc::downgrade(shared),
            conn: Arc::downgrade(conn),
            client_addr: conn.client_addr,
        }
    }

    /// The address from which the client dialled. No two open connections have the same.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.client_addr
    }

    /// Whether the connection is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let conn = self.conn.upgrade();
        conn.is_some_and(|conn| !conn.closed.load(SeqCst))
    }

    /// Number of bytes forwarded to the server so far; 0 after the end of the connection.
    #[must_use]
    pub fn bytes_up(&self) -> u64 {
        self.bytes(Way::Up)
    }

    /// Number of bytes forwarded to the client so far; 0 after the end of the connection.
    #[must_use]
    pub fn bytes_down(&self) -> u64 {
        self.bytes(Way::Down)
    }

    fn bytes(&self, way: Way) -> u64 {
        let conn = self.conn.upgrade();
        conn.map_or(0, |conn| conn.forwarded.of(way).load(SeqCst))
    }

    /// Resets the connection. When it returns, both of its sockets have been closed.
    pub fn cut(&self) {
        let (Some(shared), conn) = (self.shared.upgrade(), self.conn.as_ptr()) else {
            return;
        };
        shared.close_where(|other| std::ptr::eq(other, conn));
    }

    /// Holds the bytes of one direction or both back until it is switched off, as
    /// [`Proxy::hold`](super::Proxy::hold).
    pub fn hold(&self, direction: Direction, on: bool) {
        self.set(|faults| faults.held.set(direction, on));
    }

    /// Discards the bytes of both directions, as [`Proxy::black_hole`](super::Proxy::black_hole).
    pub fn black_hole(&self, on: bool) {
        self.set(|faults| faults.black_hole = on);
    }

    /// Discards the bytes of one direction or both, as [`Proxy::silence`](super::Proxy::silence).
    pub fn silence(&self, direction: Direction, on: bool) {
        self.set(|faults| faults.silent.set(direction, on));
    }

    /// Delays the bytes that arrive from now on, in addition to the delay of the proxy.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.set(|faults| faults.delay.set(direction, delay));
    }

    /// Limits the connection to `rate` bytes per second in each way of `direction`; `None` means no limit.
    pub fn throttle(&self, direction: Direction, rate: impl Into<Option<u64>>) {
        let link = Link::of(rate.into());
        self.set(|faults| faults.link.set(direction, link));
    }

    fn set(&self, change: impl FnOnce(&mut Faults)) {
        if let (Some(shared), Some(conn)) = (self.shared.upgrade(), self.conn.upgrade()) {
            shared.set(|_| change(&mut conn.faults.lock()));
        }
    }
}

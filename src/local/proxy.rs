//! TCP proxy that injects network faults while it runs.

mod accept;
mod connection;
mod delay_line;
mod faults;
mod link;
mod proxied;
mod pump;
mod shared;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

pub use self::{faults::Direction, proxied::ProxiedConnection};

use self::{
    accept::accept,
    faults::{Faults, Way},
    link::Link,
    shared::{Identify, Shared},
};

/// TCP proxy in front of one server, which injects network faults while it runs.
///
/// A client that is given the [`endpoint`](Proxy::endpoint) of the proxy connects to the server through it.
/// Faults apply to all connections, or to one of those that [`open`](Proxy::open) returns. Dropping the
/// proxy resets its connections and waits for the end of its threads: two for each open connection, two
/// more once a [`delay`](Proxy::delay) is set, and one that accepts.
///
/// | fault | what the client sees | ends with |
/// |---|---|---|
/// | [`cut`](Proxy::cut) | resets, and new connections are reset | [`restore`](Proxy::restore) |
/// | [`drop_connections`](Proxy::drop_connections) | resets; new connections work | |
/// | [`hold`](Proxy::hold) | silence, then everything at once | the same with `false` |
/// | [`black_hole`](Proxy::black_hole), [`silence`](Proxy::silence) | silence, and bytes are lost | the same with `false`, for new connections |
/// | [`delay`](Proxy::delay) | latency | a delay of zero |
/// | [`throttle`](Proxy::throttle) | a narrow link | a rate of `None` |
/// | [`limit_data`](Proxy::limit_data) | the end of each connection after some bytes | a limit of `None` |
///
/// ```no_run
/// use etcd_blocking::{Client, local::{LocalEtcd, Proxy}};
///
/// let etcd = LocalEtcd::start()?;
/// let proxy = Proxy::start(etcd.client_addr())?;
/// let client = Client::connect(proxy.endpoint())?;
/// client.put("color", "red")?;
/// proxy.black_hole(true);
/// assert!(client.get("color").is_err());
/// proxy.heal();
/// proxy.drop_connections();
/// assert!(client.get("color")?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// Builder of a [`Proxy`] that listens on a certain address, or identifies who dials.
#[must_use = "nothing listens before `start`"]
pub struct ProxyBuilder {
    upstream: SocketAddr,
    listen: SocketAddr,
    identify: Box<Identify>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards each connection to `upstream`, which may start later.
    ///
    /// # Errors
    ///
    /// Fails when no port is free, or no thread can be started.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::builder(upstream).start()
    }

    /// Returns a builder of a proxy in front of `upstream`.
    pub fn builder(upstream: SocketAddr) -> ProxyBuilder {
        ProxyBuilder {
            upstream,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            identify: Box::new(|_| None),
        }
    }

    /// The address on which it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL for clients: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Resets all connections, and each new one when it is accepted, until [`restore`](Self::restore).
    ///
    /// When it returns, both sockets of every connection have been closed. Blocks for 2 s at most.
    pub fn cut(&self) {
        self.shared.set(|switches| switches.cut = true);
        self.shared.close_where(|_| true);
    }

    /// As [`cut`](Self::cut), but only for connections that `from` dialled (see
    /// [`ProxyBuilder::identify`]).
    ///
    /// Until it ends, a connection of unknown origin is reset when it sends bytes.
    pub fn cut_from(&self, from: u64) {
        self.shared.set(|switches| switches.cut_from.push(from));
        let is_from = |dialled| [0, from].contains(&dialled);
        self.shared
            .close_where(|conn| is_from(conn.from.load(Ordering::SeqCst)));
    }

    /// Ends every [`cut`](Self::cut) and [`cut_from`](Self::cut_from).
    pub fn restore(&self) {
        self.shared.set(|switches| {
            switches.cut = false;
            switches.cut_from.clear();
        });
    }

    /// Ends all faults of the proxy and of its connections. A connection that has lost bytes stays silent.
    pub fn heal(&self) {
        self.shared.set(|switches| {
            switches.cut = false;
            switches.cut_from.clear();
            switches.faults = Faults::default();
            switches.limit = None;
            switches.slice = usize::MAX;
            for conn in &switches.open {
                *conn.faults.lock() = Faults::default();
            }
        });
    }

    /// Resets all connections that are open now; new ones are served. Blocks for 2 s at most.
    pub fn drop_connections(&self) {
        self.shared.close_where(|_| true);
    }

    /// Discards the bytes and the ends of connections in both directions; connections stay open, and new ones
    /// are accepted.
    ///
    /// A connection that has lost bytes stays silent in both directions, also after the black hole, because
    /// forwarding the rest would be corruption. It ends when either side closes it after the black hole. A
    /// connection that was idle all the time continues. To keep the bytes, use [`hold`](Self::hold).
    pub fn black_hole(&self, on: bool) {
        self.shared.set(|switches| switches.faults.black_hole = on);
    }

    /// Holds the bytes of one direction or both back until it is switched off: they stay in the socket
    /// buffers, and arrive afterwards.
    pub fn hold(&self, direction: Direction, on: bool) {
        self.shared
            .set(|switches| switches.faults.held.set(direction, on));
    }

    /// Discards the bytes of one direction or both; the other direction works, also of new connections.
    ///
    /// A direction of a connection that has lost bytes stays silent, as with
    /// [`black_hole`](Self::black_hole).
    pub fn silence(&self, direction: Direction, on: bool) {
        self.shared
            .set(|switches| switches.faults.silent.set(direction, on));
    }

    /// Limits each way of `direction` to `rate` bytes per second, for all connections together; `None` means
    /// no limit. Connections have equal shares: the first piece of an idle one waits for one piece of each
    /// of the others.
    ///
    /// Waiting bytes fill the socket buffers in front of this proxy, which may hold megabytes.
    pub fn throttle(&self, direction: Direction, rate: impl Into<Option<u64>>) {
        let link = Link::of(rate.into());
        self.shared
            .set(|switches| switches.faults.link.set(direction, link));
    }

    /// Delays the bytes that arrive from now on in one direction, or in each of both: then a round trip takes
    /// twice the delay longer. The throughput is unchanged: up to 4 MiB per direction of a connection are in
    /// flight.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.shared
            .set(|switches| switches.faults.delay.set(direction, delay));
    }

    /// Closes each connection accepted from now on after exactly `limit` bytes from the server; `None` means no
    /// limit.
    pub fn limit_data(&self, limit: impl Into<Option<u64>>) {
        let limit = limit.into();
        self.shared.set(|switches| switches.limit = limit);
    }

    /// Forwards pieces of at most `slice` bytes, each in its own packet; `None` forwards unchanged pieces.
    pub fn slice(&self, slice: impl Into<Option<usize>>) {
        let slice = slice.into().unwrap_or(usize::MAX).max(1);
        self.shared.set(|switches| switches.slice = slice);
    }

    /// Forwards connections accepted from now on to another server.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.shared.set(|switches| switches.upstream = upstream);
    }

    /// Number of connections accepted so far, including reset ones.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Number of open connections.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.switches.lock().open.len()
    }

    /// The open connections, in the order in which they were accepted.
    #[must_use]
    pub fn open(&self) -> Vec<ProxiedConnection> {
        let switches = self.shared.switches.lock();
        let open = switches.open.iter();
        open.map(|conn| ProxiedConnection::new(&self.shared, conn))
            .collect()
    }

    /// Number of bytes forwarded to the server so far.
    #[must_use]
    pub fn bytes_up(&self) -> u64 {
        self.shared.forwarded.of(Way::Up).load(Ordering::SeqCst)
    }

    /// Number of bytes forwarded to clients so far.
    #[must_use]
    pub fn bytes_down(&self) -> u64 {
        self.shared.forwarded.of(Way::Down).load(Ordering::SeqCst)
    }

    /// Number of bytes discarded so far, in both directions.
    #[must_use]
    pub fn bytes_discarded(&self) -> u64 {
        self.shared.discarded.load(Ordering::SeqCst)
    }
}

impl ProxyBuilder {
    /// Sets the address on which the proxy listens; a free port of 127.0.0.1 by default.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// Identifies who dials from the first bytes that it sends, for [`Proxy::cut_from`]. 0 and `None` mean
    /// that the bytes do not identify it.
    pub fn identify(
        mut self,
        identify: impl Fn(&[u8]) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        self.identify = Box::new(identify);
        self
    }

    /// Starts the proxy.
    ///
    /// # Errors
    ///
    /// Fails when the address cannot be used, or no thread can be started.
    pub fn start(self) -> io::Result<Proxy> {
        let listener = TcpListener::bind(self.listen)?;
        let addr = listener.local_addr()?;
        let shared = Shared::new(self.upstream, self.identify);
        let accepting = thread::Builder::new().name("proxy-accept".into()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Proxy {
            addr,
            shared,
            accepting: Some(accepting),
        })
    }
}

impl fmt::Debug for ProxyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyBuilder")
            .field("upstream", &self.upstream)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    /// Resets all connections and waits for the end of all threads.
    fn drop(&mut self) {
        self.shared.set(|switches| switches.closing = true);
        self.shared.close_where(|_| true);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

//! TCP proxy that injects network faults while it runs.

mod conn;
mod delay_line;
mod pump;

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use conn::Conn;
use delay_line::DelayLine;

use super::link::Link;

/// Write timeout after which a blocked thread checks whether its connection was closed.
const WRITE_SLICE: Duration = Duration::from_millis(20);

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Identifies the dialling member from the first bytes that it sends.
pub type Identify = fn(&[u8]) -> Option<u64>;

/// Proxy in front of one server. It has two threads per open connection, and two more once a
/// [`latency`](Self::latency) is set.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    switches: Mutex<Switches>,
    changed: Condvar,
    identify: Identify,
    accepted: AtomicUsize,
    forwarded: [AtomicU64; 2],
    swallowed: AtomicU64,
}

#[derive(Debug)]
struct Switches {
    upstream: SocketAddr,
    closing: bool,
    cut: bool,
    cut_from: Vec<u64>,
    black_hole: bool,
    paused: [bool; 2],
    silent: [bool; 2],
    links: [Link; 2],
    latency: Duration,
    limit: Option<u64>,
    slice: usize,
    open: Vec<Arc<Conn>>,
}

impl Proxy {
    /// Listens on 127.0.0.1 and forwards each connection to `upstream`, which may start later.
    pub fn start(upstream: SocketAddr) -> Self {
        Self::identifying(upstream, |_| None)
    }

    /// Listens on `addr` and forwards each connection to `upstream`.
    pub fn listening(addr: SocketAddr, upstream: SocketAddr) -> Self {
        Self::of(TcpListener::bind(addr).unwrap(), upstream, |_| None)
    }

    /// Creates a proxy that identifies the dialling member, for [`cut_from`](Self::cut_from). `identify` must
    /// not return `Some(0)`.
    pub fn identifying(upstream: SocketAddr, identify: Identify) -> Self {
        Self::of(
            TcpListener::bind("127.0.0.1:0").unwrap(),
            upstream,
            identify,
        )
    }

    fn of(listener: TcpListener, upstream: SocketAddr, identify: Identify) -> Self {
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            switches: Mutex::new(Switches {
                upstream,
                closing: false,
                cut: false,
                cut_from: Vec::new(),
                black_hole: false,
                paused: [false; 2],
                silent: [false; 2],
                links: [Link::default(); 2],
                latency: Duration::ZERO,
                limit: None,
                slice: usize::MAX,
                open: Vec::new(),
            }),
            changed: Condvar::new(),
            identify,
            accepted: AtomicUsize::new(0),
            forwarded: [AtomicU64::new(0), AtomicU64::new(0)],
            swallowed: AtomicU64::new(0),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            addr,
            shared,
            accepting: Some(accepting),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Resets all connections, and each new one when it is accepted, until [`restore`](Self::restore).
    ///
    /// When it returns, both sockets of every connection have been closed.
    pub fn cut(&self) {
        self.set(|switches| switches.cut = true);
        self.close_where(|_| true);
    }

    /// As [`cut`](Self::cut), but only for connections that `from` dialled (see
    /// [`identifying`](Self::identifying)).
    ///
    /// Until it ends, a connection of unknown origin is reset when it sends bytes.
    pub fn cut_from(&self, from: u64) {
        self.set(|switches| switches.cut_from.push(from));
        self.close_where(|conn| [0, from].contains(&conn.from.load(Ordering::SeqCst)));
    }

    /// Ends every [`cut`](Self::cut) and [`cut_from`](Self::cut_from).
    pub fn restore(&self) {
        self.set(|switches| {
            switches.cut = false;
            switches.cut_from.clear();
        });
    }

    /// Resets all connections that are open now; new ones are served.
    pub fn drop_connections(&self) {
        self.close_where(|_| true);
    }

    /// Discards the bytes and the ends of connections in both directions; connections stay open, and new ones
    /// are accepted.
    ///
    /// A connection that has lost bytes stays silent in both directions, also after the black hole, because
    /// forwarding the rest would be corruption. It ends when either side closes it after the black hole. A
    /// connection that was idle all the time continues. To hold bytes back, use [`pause`](Self::pause).
    pub fn black_hole(&self, on: bool) {
        self.set(|switches| switches.black_hole = on);
    }

    /// Stops reading in one direction, so bytes stay in the socket buffers, until it is switched off.
    pub fn pause(&self, dir: Dir, on: bool) {
        self.set(|switches| switches.paused[dir as usize] = on);
    }

    /// Reads and discards the bytes of one direction; the other direction works, also of new connections.
    ///
    /// A direction of a connection that has lost bytes stays silent, as with
    /// [`black_hole`](Self::black_hole).
    pub fn silence(&self, dir: Dir, on: bool) {
        self.set(|switches| switches.silent[dir as usize] = on);
    }

    /// Limits one direction to `rate` bytes per second, for all connections together; `None` means no limit.
    /// Connections have equal shares: the first piece of an idle one waits for one piece of each of the others.
    ///
    /// Waiting bytes fill the socket buffers in front of this proxy, which may hold megabytes.
    pub fn throttle(&self, dir: Dir, rate: impl Into<Option<u64>>) {
        let rate = rate.into();
        self.set(|switches| switches.links[dir as usize] = Link::of(rate));
    }

    /// Delays bytes that arrive from now on, in each direction, so a round trip takes twice the latency longer.
    /// The throughput is unchanged: up to 4 MiB per direction of a connection are in flight.
    pub fn latency(&self, latency: Duration) {
        self.set(|switches| switches.latency = latency);
    }

    /// Closes each connection accepted from now on after exactly `limit` bytes from the server; `None` means no
    /// limit.
    pub fn limit_data(&self, limit: impl Into<Option<u64>>) {
        let limit = limit.into();
        self.set(|switches| switches.limit = limit);
    }

    /// Forwards pieces of at most `slice` bytes, each in its own packet; `None` forwards unchanged pieces.
    pub fn slice(&self, slice: impl Into<Option<usize>>) {
        let slice = slice.into().unwrap_or(usize::MAX).max(1);
        self.set(|switches| switches.slice = slice);
    }

    /// Forwards connections accepted from now on to another server.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.set(|switches| switches.upstream = upstream);
    }

    /// Number of connections accepted so far, including reset ones.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Number of open connections.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// Number of bytes forwarded to the server so far.
    pub fn bytes_up(&self) -> u64 {
        self.shared.forwarded[Dir::Up as usize].load(Ordering::SeqCst)
    }

    /// Number of bytes forwarded to clients so far.
    pub fn bytes_down(&self) -> u64 {
        self.shared.forwarded[Dir::Down as usize].load(Ordering::SeqCst)
    }

    /// Number of bytes discarded so far, in both directions.
    pub fn bytes_swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }

    /// Changes the switches and wakes all threads that wait for a change.
    fn set(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }

    fn close_where(&self, which: impl Fn(&Conn) -> bool) {
        let conns: Vec<_> = self
            .shared
            .lock()
            .open
            .extract_if(.., |conn| which(conn))
            .collect();
        for conn in &conns {
            conn.reset();
        }
        // Notify under the lock, or a thread between its check and its wait would miss it.
        self.set(|_| ());
        // The sockets close when the threads of the connection have dropped it.
        let deadline = Instant::now() + Duration::from_secs(2);
        while conns.iter().any(|conn| Arc::strong_count(conn) > 1) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Proxy {
    /// Resets all connections and waits for the end of all threads.
    fn drop(&mut self) {
        self.set(|switches| switches.closing = true);
        self.close_where(|_| true);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for client in listener.incoming() {
        let mut switches = shared.lock();
        if switches.closing {
            break;
        }
        let Ok(client) = client else {
            // Out of file descriptors: the connection waits in the backlog until there are some.
            drop(switches);
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let conn = Arc::new(Conn {
            client,
            server: OnceLock::new(),
            from: AtomicU64::new(0),
            lost: AtomicBool::new(switches.black_hole),
            silenced: [AtomicBool::new(false), AtomicBool::new(false)],
            closed: AtomicBool::new(false),
            limit: switches.limit,
            lines: [DelayLine::default(), DelayLine::default()],
        });
        if switches.cut {
            conn.reset();
        } else {
            switches.open.push(Arc::clone(&conn));
            let (shared, upstream) = (Arc::clone(shared), switches.upstream);
            threads.push(thread::spawn(move || serve(&shared, &conn, upstream)));
        }
        drop(switches);
        // Count last: a connection that is counted was accepted or reset.
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        threads.retain(|thread| !thread.is_finished());
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Serves one connection until it ends.
fn serve(shared: &Shared, conn: &Arc<Conn>, upstream: SocketAddr) {
    let _ = conn.client.set_nodelay(true);
    let _ = conn.client.set_write_timeout(Some(WRITE_SLICE));
    if conn.lost.load(Ordering::SeqCst) {
        shared.pump(conn, Dir::Up, &conn.client, None);
    } else if let Ok(server) = TcpStream::connect_timeout(&upstream, Duration::from_secs(1)) {
        let _ = server.set_nodelay(true);
        let _ = server.set_write_timeout(Some(WRITE_SLICE));
        let server = conn.server.get_or_init(|| server);
        thread::scope(|scope| {
            // If the connection was closed during the dial, the pumps notice before their first read.
            scope.spawn(|| shared.pump(conn, Dir::Down, server, Some(&conn.client)));
            shared.pump(conn, Dir::Up, &conn.client, Some(server));
        });
    } else {
        conn.reset();
    }
    shared.lock().open.retain(|other| !Arc::ptr_eq(other, conn));
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A TCP proxy whose network can be made bad while it runs.

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

/// How soon a thread that is stuck in a write sees that its connection was closed.
const WRITE_SLICE: Duration = Duration::from_millis(20);

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Finds out who dials from the first bytes that are sent up.
pub type Identify = fn(&[u8]) -> Option<u64>;

/// A proxy in front of one server, with two threads for each open connection, and two more once there
/// is a [`latency`](Self::latency).
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
    /// Listens on 127.0.0.1 and forwards each connection to `upstream`, which need not be there
    /// yet.
    pub fn start(upstream: SocketAddr) -> Self {
        Self::identifying(upstream, |_| None)
    }

    /// Listens on `addr` instead.
    pub fn listening(addr: SocketAddr, upstream: SocketAddr) -> Self {
        Self::of(TcpListener::bind(addr).unwrap(), upstream, |_| None)
    }

    /// A proxy that knows who dials, for [`cut_from`](Self::cut_from). `identify` must not return
    /// `Some(0)`.
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

    /// Resets all connections now, and each new one as soon as it is accepted, until
    /// [`restore`](Self::restore).
    ///
    /// When it returns, both ends of every connection have been closed.
    pub fn cut(&self) {
        self.set(|switches| switches.cut = true);
        self.close_where(|_| true);
    }

    /// Like [`cut`](Self::cut), but only for what `from` dialled (see
    /// [`identifying`](Self::identifying)).
    ///
    /// As long as it lasts, a connection of unknown origin is reset when it sends something.
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

    /// Swallows what is sent in both directions, and the ends of connections too; connections stay
    /// open, and new ones are accepted.
    ///
    /// Swallowed bytes are gone. A connection that has lost some stays silent for good, in both
    /// directions, also after the black hole: forwarding the rest would be another fault,
    /// corruption. It ends when either side closes it after the black hole. A connection that
    /// was idle all the time goes on. To hold bytes back, use [`pause`](Self::pause).
    pub fn black_hole(&self, on: bool) {
        self.set(|switches| switches.black_hole = on);
    }

    /// Holds back what is sent in one direction, up to what socket buffers take, until it is
    /// unpaused.
    pub fn pause(&self, dir: Dir, on: bool) {
        self.set(|switches| switches.paused[dir as usize] = on);
    }

    /// Takes what is sent in one direction, as far as its sender can see, and throws it away; the other
    /// direction goes on, and so do new connections as far as that.
    ///
    /// A direction of a connection that has lost bytes stays silent for good, as with
    /// [`black_hole`](Self::black_hole).
    pub fn silence(&self, dir: Dir, on: bool) {
        self.set(|switches| switches.silent[dir as usize] = on);
    }

    /// Limits one direction to so many bytes a second, for all connections together; `None` for no
    /// limit. Connections have equal shares, and an idle one's first piece waits for one piece of each
    /// of the others.
    ///
    /// What waits fills the socket buffers before this proxy, and that may be megabytes.
    pub fn throttle(&self, dir: Dir, rate: impl Into<Option<u64>>) {
        let rate = rate.into();
        self.set(|switches| switches.links[dir as usize] = Link::of(rate));
    }

    /// Has what is sent from now on arrive so much later, in each direction, so a round trip takes twice
    /// as long. Throughput stays: up to 4 MiB of each direction of a connection are on their way.
    pub fn latency(&self, latency: Duration) {
        self.set(|switches| switches.latency = latency);
    }

    /// Closes each connection accepted from now on after exactly `limit` bytes from the server;
    /// `None` for no limit.
    pub fn limit_data(&self, limit: impl Into<Option<u64>>) {
        let limit = limit.into();
        self.set(|switches| switches.limit = limit);
    }

    /// Forwards in pieces of at most `slice` bytes, each its own packet; `None` for as they come.
    pub fn slice(&self, slice: impl Into<Option<usize>>) {
        let slice = slice.into().unwrap_or(usize::MAX).max(1);
        self.set(|switches| switches.slice = slice);
    }

    /// Sends connections accepted from now on to another server.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.set(|switches| switches.upstream = upstream);
    }

    /// Connections accepted so far, reset ones included.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// Bytes forwarded to the server so far.
    pub fn bytes_up(&self) -> u64 {
        self.shared.forwarded[Dir::Up as usize].load(Ordering::SeqCst)
    }

    /// Bytes forwarded to clients so far.
    pub fn bytes_down(&self) -> u64 {
        self.shared.forwarded[Dir::Down as usize].load(Ordering::SeqCst)
    }

    /// Bytes that were read and thrown away so far, of both directions.
    pub fn bytes_swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }

    /// Changes something under the lock, and wakes who waits for a change.
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
        // Through the lock, or who has just looked and is about to wait would not hear of it.
        self.set(|_| ());
        // The sockets close when the threads of the connection have let go of it, and this is the
        // last hold.
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
        // Counted last: who sees the number knows that the connection was taken in or reset.
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        threads.retain(|thread| !thread.is_finished());
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// One connection from its first byte to its last.
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
            // Closed while we were dialling: nobody has seen the new socket, and the pumps look
            // before they read.
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

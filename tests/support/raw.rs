//! Scripted TCP server: arbitrary bytes, other protocols, silence, partial frames.

use std::{
    io::Read,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Runs a script for each connection, on a thread of its own, until dropped.
#[derive(Debug)]
pub struct RawServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    closing: AtomicBool,
    accepted: AtomicUsize,
    running: Mutex<Vec<(TcpStream, JoinHandle<()>)>>,
}

impl RawServer {
    /// Listens on 127.0.0.1; `script` is called with each connection and its number, counted from 0.
    ///
    /// The connection closes when the script has returned.
    pub fn start(script: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        Self::listening(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// Listens on `addr`.
    pub fn listening(
        addr: SocketAddr,
        script: impl Fn(TcpStream, usize) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = thread::spawn({
            let (shared, script) = (Arc::clone(&shared), Arc::new(script));
            move || {
                for stream in listener.incoming() {
                    if shared.closing.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let index = shared.accepted.fetch_add(1, Ordering::SeqCst);
                    let watched = stream.try_clone().unwrap();
                    let script = Arc::clone(&script);
                    let ends = stream.try_clone().unwrap();
                    let thread = thread::spawn(move || {
                        script(stream, index);
                        // Clones keep the socket open; shut it down so that the peer sees the end.
                        let _ = ends.shutdown(Shutdown::Both);
                    });
                    let mut running = shared.running.lock().unwrap();
                    running.retain(|(_, thread)| !thread.is_finished());
                    running.push((watched, thread));
                }
            }
        });
        Self {
            addr,
            shared,
            accepting: Some(accepting),
        }
    }

    /// A server that reads and never writes.
    pub fn silent() -> Self {
        Self::start(|stream, _| swallow(stream))
    }

    /// A server that writes `bytes` to each connection and then only reads.
    pub fn saying(bytes: &'static [u8]) -> Self {
        Self::start(move |mut stream, _| {
            let _ = std::io::Write::write_all(&mut stream, bytes);
            swallow(stream);
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

/// Reads and discards until the peer closes or the server is dropped.
pub fn swallow(mut stream: TcpStream) {
    let mut chunk = [0; 4096];
    while stream.read(&mut chunk).is_ok_and(|count| count > 0) {}
}

impl Drop for RawServer {
    /// Stops accepting and closes all connections. Waits for running scripts for 1 s at most.
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let running = std::mem::take(&mut *self.shared.running.lock().unwrap());
        for (stream, _) in &running {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let deadline = Instant::now() + Duration::from_secs(1);
        while running.iter().any(|(_, thread)| !thread.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

//! Opens TCP connections to instances, on threads that the views of a client share.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::probe_plan::Verdict;

/// The time limit of a probe.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The most threads for addresses with an IP address. Such a probe takes [`TIMEOUT`] at most.
const MAX_ADDRESS_THREADS: usize = 48;

/// The most threads for addresses with a host name. A lookup may hang for longer than a probe, and must not
/// delay the probes of others.
const MAX_NAME_THREADS: usize = 8;

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(2);

/// The threads that probe for all views of a client. They are started when needed, and end when they are
/// idle.
#[derive(Debug)]
pub(super) struct TcpProber {
    addresses: Arc<ProbeQueue>,
    names: Arc<ProbeQueue>,
}

/// The results of the probes of one view.
#[derive(Debug, Default)]
pub(super) struct ProbeResults(Mutex<Results>);

#[derive(Debug, Default)]
struct Results {
    arrived: Vec<(Arc<str>, Verdict)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct ProbeQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    max_threads: usize,
}

#[derive(Debug, Default)]
struct QueueState {
    probes: VecDeque<(Arc<str>, Arc<ProbeResults>)>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

impl TcpProber {
    pub(super) fn new() -> Self {
        TcpProber {
            addresses: ProbeQueue::new(MAX_ADDRESS_THREADS),
            names: ProbeQueue::new(MAX_NAME_THREADS),
        }
    }

    /// Probes an address. The result goes to `results`. It does not block.
    pub(super) fn probe(&self, addr: Arc<str>, results: &Arc<ProbeResults>) {
        let queue = match addr.parse::<SocketAddr>() {
            Ok(_) => &self.addresses,
            Err(_) => &self.names,
        };
        queue.push(addr, Arc::clone(results));
    }
}

impl Drop for TcpProber {
    fn drop(&mut self) {
        for queue in [&self.addresses, &self.names] {
            queue.state.lock().is_closed = true;
            queue.changed.notify_all();
        }
    }
}

impl ProbeResults {
    /// Takes the results that arrived.
    pub(super) fn take(&self) -> Vec<(Arc<str>, Verdict)> {
        std::mem::take(&mut self.0.lock().arrived)
    }

    /// Wakes the waker once: now, if a result has arrived, or else when one does.
    pub(super) fn wake_when_ready(&self, waker: &Waker) {
        let mut results = self.0.lock();
        match results.arrived.is_empty() {
            true => results.waker = Some(waker.clone()),
            false => waker.wake_by_ref(),
        }
    }

    fn push(&self, addr: Arc<str>, verdict: Verdict) {
        let mut results = self.0.lock();
        results.arrived.push((addr, verdict));
        let waker = results.waker.take();
        drop(results);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl ProbeQueue {
    fn new(max_threads: usize) -> Arc<Self> {
        Arc::new(ProbeQueue {
            state: Mutex::default(),
            changed: Condvar::new(),
            max_threads,
        })
    }

    fn push(self: &Arc<Self>, addr: Arc<str>, results: Arc<ProbeResults>) {
        let mut state = self.state.lock();
        state.probes.push_back((addr, results));
        if state.idle >= state.probes.len() || state.threads >= self.max_threads {
            drop(state);
            self.changed.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let queue = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("etcd-probe".into())
            .spawn(move || queue.run());
        if spawned.is_err() {
            let mut state = self.state.lock();
            state.threads -= 1;
            // Without any thread, nobody takes the probes.
            let left = match state.threads {
                0 => std::mem::take(&mut state.probes),
                _ => VecDeque::new(),
            };
            drop(state);
            for (addr, results) in left {
                results.push(addr, Verdict::Unknown);
            }
        }
    }

    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                break;
            }
            if let Some((addr, results)) = state.probes.pop_front() {
                drop(state);
                let verdict = probe(&addr, Instant::now() + TIMEOUT);
                results.push(addr, verdict);
                state = self.state.lock();
                continue;
            }
            state.idle += 1;
            let late = self.changed.wait_for(&mut state, IDLE).timed_out();
            state.idle -= 1;
            if late && state.probes.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

/// Opens a connection to an address, and closes it at once.
fn probe(addr: &str, deadline: Instant) -> Verdict {
    let addresses: Vec<SocketAddr> = match addr.to_socket_addrs() {
        Ok(addresses) => addresses.take(MAX_ADDRESSES).collect(),
        // A name that cannot be looked up may be a fault of the name server.
        Err(_) => return Verdict::Unknown,
    };
    let mut verdicts = Vec::new();
    for (n, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - n).unwrap_or(1);
        if share.is_zero() {
            return Verdict::Unknown;
        }
        match verdict(TcpStream::connect_timeout(address, share).map(drop)) {
            Verdict::Alive => return Verdict::Alive,
            other => verdicts.push(other),
        }
    }
    match !verdicts.is_empty() && verdicts.iter().all(|one| *one == Verdict::Dead) {
        true => Verdict::Dead,
        false => Verdict::Unknown,
    }
}

fn verdict(connected: io::Result<()>) -> Verdict {
    match connected.map_err(|error| error.kind()) {
        Ok(()) => Verdict::Alive,
        Err(
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::HostUnreachable
            | ErrorKind::TimedOut,
        ) => Verdict::Dead,
        // Such as too many open files, or a network of this machine that is down.
        Err(_) => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// The results of these probes, in the order of the addresses.
    fn results(prober: &TcpProber, addrs: &[Arc<str>]) -> Vec<Verdict> {
        let results = Arc::new(ProbeResults::default());
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        results.wake_when_ready(&Waker::from(Arc::clone(&flag)));
        for addr in addrs {
            prober.probe(Arc::clone(addr), &results);
        }
        let begun = Instant::now();
        let mut all = Vec::new();
        while all.len() < addrs.len() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{all:?}");
            thread::sleep(Duration::from_millis(2));
            all.extend(results.take());
        }
        assert!(flag.0.load(Ordering::SeqCst), "the waker was woken");
        all.sort_by_key(|(addr, _)| addrs.iter().position(|other| other == addr));
        all.into_iter().map(|(_, verdict)| verdict).collect()
    }

    #[test]
    fn a_listener_is_alive_and_a_closed_port_is_dead() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let alive: Arc<str> = listener.local_addr().unwrap().to_string().into();
        let dead: Arc<str> = "127.0.0.1:1".into();
        let named: Arc<str> = format!("localhost:{}", listener.local_addr().unwrap().port()).into();
        let prober = TcpProber::new();
        let bad: Arc<str> = "no host:1".into();
        assert_eq!(
            results(&prober, &[alive, dead, bad, named]),
            [
                Verdict::Alive,
                Verdict::Dead,
                Verdict::Unknown,
                Verdict::Alive
            ]
        );
    }

    #[test]
    fn many_probes_share_a_bounded_number_of_threads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr: Arc<str> = listener.local_addr().unwrap().to_string().into();
        let prober = TcpProber::new();
        let all = results(&prober, &vec![addr; 300]);
        assert!(all.iter().all(|one| *one != Verdict::Unknown), "{all:?}");
        assert!(prober.addresses.state.lock().threads <= MAX_ADDRESS_THREADS);
    }

    #[test]
    fn only_proof_counts_as_dead() {
        let of = |kind: ErrorKind| verdict(Err(kind.into()));
        assert_eq!(of(ErrorKind::ConnectionRefused), Verdict::Dead);
        assert_eq!(of(ErrorKind::TimedOut), Verdict::Dead);
        assert_eq!(of(ErrorKind::NetworkUnreachable), Verdict::Unknown);
        assert_eq!(of(ErrorKind::PermissionDenied), Verdict::Unknown);
        assert_eq!(of(ErrorKind::Other), Verdict::Unknown);
    }
}

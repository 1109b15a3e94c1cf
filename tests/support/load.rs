//! Continuous reads, writes and a watch during a fault, and checks of their results afterwards.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use etcd_blocking::{Client, Error, Get, KeyRange, Watch, Watcher};

use super::pace::Pace;
use super::wait::eventually;

/// A reader, a writer of distinct keys, and a watch of these keys.
#[derive(Debug)]
pub struct Load {
    client: Client,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    threads: Vec<JoinHandle<()>>,
    watch: Watcher,
    pace: Pace,
}

#[derive(Debug, Default)]
struct Seen {
    reads: Vec<Instant>,
    failed_reads: Vec<Error>,
    writes: Vec<(Instant, String)>,
    failed_writes: Vec<(String, Error)>,
}

/// Record of one call.
type Work = Box<dyn Fn(&Client, &Mutex<Seen>, usize) + Send>;

/// Results of the traffic, and the longest interruption of each kind, without the time by which the machine
/// was late.
#[derive(Debug)]
pub struct Report {
    pub reads: usize,
    pub failed_reads: Vec<Error>,
    pub longest_without_read: Duration,
    pub writes: usize,
    pub failed_writes: Vec<Error>,
    pub longest_without_write: Duration,
    /// Time from the fault until the watch has delivered everything written before and after it.
    pub watch_caught_up: Duration,
}

impl Load {
    pub fn start(client: &Client, writers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let watch = client.watch(Watch::prefix("w/")).unwrap();
        let spawn = |work: Work| {
            let (client, stop, seen) = (client.clone(), Arc::clone(&stop), Arc::clone(&seen));
            thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    work(&client, &seen, n);
                    n += 1;
                    // A few hundred calls per second are enough, and do not overload the servers.
                    thread::sleep(Duration::from_millis(2));
                }
            })
        };
        let mut threads = vec![spawn(Box::new(|client, seen, _| {
            let read = client.get("r");
            let mut seen = seen.lock().unwrap();
            match read {
                Ok(_) => seen.reads.push(Instant::now()),
                Err(error) => seen.failed_reads.push(error),
            }
        }))];
        threads.extend((0..writers).map(|writer| {
            spawn(Box::new(move |client, seen, n| {
                let key = format!("w/{writer}/{n:06}");
                let put = client.put(key.clone(), "v");
                let mut seen = seen.lock().unwrap();
                match put {
                    Ok(_) => seen.writes.push((Instant::now(), key)),
                    Err(error) => seen.failed_writes.push((key, error)),
                }
            }))
        }));
        let load = Load {
            client: client.clone(),
            stop,
            seen,
            threads,
            watch,
            pace: Pace::start(),
        };
        load.flows(Instant::now(), Duration::from_secs(30));
        load
    }

    /// Waits for twenty successful reads and writes that ended after `since`.
    #[track_caller]
    pub fn flows(&self, since: Instant, limit: Duration) {
        eventually(limit, "reads and writes are answered", || {
            let seen = self.seen.lock().unwrap();
            let reads = seen
                .reads
                .iter()
                .rev()
                .take_while(|at| **at > since)
                .take(20);
            let writes = seen
                .writes
                .iter()
                .rev()
                .take_while(|(at, _)| *at > since)
                .take(20);
            (reads.count() == 20 && writes.count() == 20).then_some(())
        });
    }

    /// Stops the traffic, which must succeed again, and checks the guarantees: a successful write is in the
    /// store, a failed write of known outcome is not, no write was executed twice, and the watch delivered
    /// every change once, in order.
    #[track_caller]
    pub fn finish(self, fault: Instant, watch_limit: Duration) -> Report {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        let stored = self
            .client
            .call(Get::range(KeyRange::prefix("w/")))
            .unwrap();
        let by_key: BTreeMap<_, _> = stored
            .kvs()
            .iter()
            .map(|kv| (kv.key_lossy().into_owned(), kv))
            .collect();
        for (_, key) in &seen.writes {
            assert!(
                by_key.contains_key(key),
                "{key} was acknowledged and is lost"
            );
        }
        for (key, error) in &seen.failed_writes {
            assert!(
                error.outcome_unknown() || !by_key.contains_key(key),
                "{key} is there, but: {error}"
            );
        }
        for kv in stored.kvs() {
            assert_eq!(
                kv.version(),
                1,
                "{} was executed more than once",
                kv.key_lossy()
            );
        }
        let mut expected: Vec<_> = stored.kvs().iter().map(|kv| kv.mod_revision()).collect();
        expected.sort();
        let mut events = Vec::new();
        while events.last() != expected.last() {
            let delay = self.pace.delay(fault, Instant::now());
            let left = (watch_limit + delay).saturating_sub(fault.elapsed());
            let item = self
                .watch
                .recv_timeout(left.max(Duration::from_millis(100)));
            let item = item.unwrap_or_else(|end| {
                panic!(
                    "{end}: the watch has {} of {} events",
                    events.len(),
                    expected.len()
                )
            });
            events.extend(item.unwrap().events().iter().map(|event| event.revision()));
        }
        assert_eq!(events, expected);
        Report {
            reads: seen.reads.len(),
            failed_reads: seen.failed_reads,
            longest_without_read: longest_gap(&self.pace, seen.reads.iter()),
            writes: seen.writes.len(),
            failed_writes: seen
                .failed_writes
                .into_iter()
                .map(|(_, error)| error)
                .collect(),
            longest_without_write: longest_gap(&self.pace, seen.writes.iter().map(|(at, _)| at)),
            watch_caught_up: net(&self.pace, fault, Instant::now()),
        }
    }
}

fn longest_gap<'a>(pace: &Pace, moments: impl Iterator<Item = &'a Instant>) -> Duration {
    let mut moments: Vec<_> = moments.collect();
    moments.sort();
    let gaps = moments.windows(2).map(|pair| net(pace, *pair[0], *pair[1]));
    gaps.max().unwrap_or_default()
}

fn net(pace: &Pace, from: Instant, to: Instant) -> Duration {
    let took = to.saturating_duration_since(from);
    took.saturating_sub(pace.delay(from, to))
}

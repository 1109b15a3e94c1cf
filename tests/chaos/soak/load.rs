//! The load: readers of all changes, writers of labelled values, and one user of everything else.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use etcd_blocking::concurrency::{self, Session};
use etcd_blocking::mirror::Mirror;
use etcd_blocking::{
    Client, Discovery, EventKind, Instance, KeyRange, Put, Registrar, Registration, Revision,
    ServiceView, State, Txn, Watch, WatchResponse,
};

use super::labels::{Counts, Labels, Outcome};
use super::stream::{Delivered, Stream};
use super::{Listed, list};
use crate::run::stage::Stage;

/// The readers of all changes.
pub const READERS: usize = 16;
const WRITERS: u64 = 8;
/// The keys of each writer.
const KEYS: u64 = 10;
/// The pause after each write.
const PAUSE: Duration = Duration::from_millis(16);
const POLL: Duration = Duration::from_millis(100);
const PREFIX: &str = "soak/";
/// The time after which a label is forgotten, in milliseconds. No request is executed so late.
const FORGOTTEN: u64 = 120_000;
const TTL: Duration = Duration::from_secs(5);
const INSTANCES: u16 = 4;

/// What the readers and writers share.
#[derive(Debug)]
pub struct Load {
    begun: Instant,
    labels: Mutex<Labels>,
    /// The events and the revision of each reader.
    events: Vec<AtomicU64>,
    reached: Vec<AtomicI64>,
    /// The answers of each writer.
    answers: Vec<AtomicU64>,
    mirror: Mirror,
    view: ServiceView,
    registrations: Vec<Registration>,
    _registrar: Registrar,
}

impl Load {
    pub fn open(clients: &[Client]) -> Self {
        let client = &clients[0];
        let registrar = Registrar::builder(client).ttl(TTL).start().unwrap();
        let instance = |n| Instance::new("s", format!("10.0.0.{n}:80")).id(format!("i{n}"));
        Load {
            begun: Instant::now(),
            labels: Mutex::new(Labels::new(FORGOTTEN)),
            events: (0..READERS).map(|_| AtomicU64::new(0)).collect(),
            reached: (0..READERS).map(|_| AtomicI64::new(0)).collect(),
            answers: (0..WRITERS).map(|_| AtomicU64::new(0)).collect(),
            mirror: client.mirror(KeyRange::prefix(PREFIX)).unwrap(),
            view: Discovery::new(client).service("s").unwrap(),
            registrations: registrar
                .register_all((0..INSTANCES).map(instance))
                .unwrap(),
            _registrar: registrar,
        }
    }

    /// Starts all threads. Each ends with the stage, and ends it when something is wrong.
    pub fn start<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        stage: &'env Stage,
        clients: &'env [Client],
    ) {
        let of = |n: usize| &clients[n % clients.len()];
        // Before the writers: the first reader must see every label.
        let listed = list(&clients[0]);
        for reader in 0..READERS {
            let listed = listed.clone();
            scope.spawn(move || {
                let _failed = Failed(stage);
                self.read(stage, of(reader), reader, listed);
            });
        }
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let _failed = Failed(stage);
                self.write(stage, of(writer as usize), writer);
            });
        }
        scope.spawn(move || drain(stage, self));
        scope.spawn(move || lock(stage, &clients[1]));
    }

    pub fn events(&self) -> u64 {
        self.events.iter().map(|count| count.load(SeqCst)).sum()
    }

    pub fn counts(&self) -> Counts {
        self.labels.lock().unwrap().counts
    }

    /// The revision of the slowest reader.
    pub fn slowest(&self) -> i64 {
        let reached = self.reached.iter().map(|at| at.load(SeqCst));
        reached.min().unwrap_or(0)
    }

    /// The readers and writers with fewer results.
    pub fn idle(&self, results: u64) -> Vec<String> {
        let readers = self.events.iter().enumerate();
        let readers = readers.map(|(n, count)| (format!("reader {n}"), count));
        let writers = self.answers.iter().enumerate();
        let writers = writers.map(|(n, count)| (format!("writer {n}"), count));
        let all = readers.chain(writers);
        let idle = all.filter(|(_, count)| count.load(SeqCst) < results);
        idle.map(|(name, _)| name).collect()
    }

    /// What has not arrived, or does not work again.
    pub fn missing(&self, revision: i64) -> Vec<String> {
        let mut missing = Vec::new();
        for (n, at) in self.reached.iter().enumerate() {
            if at.load(SeqCst) < revision {
                missing.push(format!("reader {n} is at {}", at.load(SeqCst)));
            }
        }
        let awaited = self.labels.lock().unwrap().awaited();
        if awaited > 0 {
            missing.push(format!("{awaited} writes"));
        }
        let at = Revision::new(revision);
        if self.mirror.wait_revision(at, POLL).is_err() {
            missing.push("the mirror".to_owned());
        }
        if self.view.snapshot().len() != usize::from(INSTANCES) {
            missing.push(format!("the view has {:?}", self.view.snapshot()));
        }
        for registration in &self.registrations {
            if !matches!(registration.state(), State::Registered { .. }) {
                missing.push(format!("{:?}", registration.state()));
            }
        }
        missing
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// Reads all changes since a list and checks them; the first reader also looks for the labels.
    fn read(&self, stage: &Stage, client: &Client, reader: usize, listed: Listed) {
        let (versions, revision) = listed;
        let mut stream = Stream::new(versions, revision);
        let watch = Watch::range(KeyRange::all()).after(Revision::new(revision));
        let watcher = client.watch(watch).unwrap();
        while !stage.is_over() {
            let Ok(response) = watcher.recv_timeout(POLL) else {
                continue;
            };
            let response = response.unwrap();
            stream.deliver(&delivered(&response)).unwrap();
            self.events[reader].store(stream.events, SeqCst);
            self.reached[reader].store(stream.revision(), SeqCst);
            if reader == 0 {
                self.see(&response, stream.revision());
            }
        }
    }

    fn see(&self, response: &WatchResponse, revision: i64) {
        let mut labels = self.labels.lock().unwrap();
        for event in response.events() {
            if event.kind() == EventKind::Put && event.kv().key().starts_with(PREFIX.as_bytes()) {
                let text = String::from_utf8_lossy(event.kv().value());
                let label = text.trim().parse().unwrap();
                let at = event.revision().get();
                labels.see(label, at, self.now()).unwrap();
            }
        }
        labels.reach(revision).unwrap();
    }

    /// Writes values that are used once, one after the other.
    fn write(&self, stage: &Stage, client: &Client, writer: u64) {
        let mut number = 0;
        while stage.works() {
            let label = number * WRITERS + writer;
            number += 1;
            let key = format!("{PREFIX}{writer}/{}", number % KEYS);
            let put = Put::new(key, format!("{label:>32}"));
            let result = match number % 4 {
                0 => client
                    .call(Txn::always([put]))
                    .map(|txn| txn.header().revision),
                _ => client.call(put).map(|put| put.revision()),
            };
            let outcome = match result {
                Ok(revision) => Outcome::Done(revision.get()),
                Err(error) if error.outcome_unknown() => Outcome::Unknown,
                Err(_) => Outcome::NotExecuted,
            };
            let mut labels = self.labels.lock().unwrap();
            labels.end(label, outcome, self.now()).unwrap();
            drop(labels);
            if matches!(outcome, Outcome::Done(_)) {
                self.answers[writer as usize].fetch_add(1, SeqCst);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Ends the run when its thread panics.
struct Failed<'a>(&'a Stage);

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.ending.store(true, SeqCst);
        }
    }
}

fn delivered(response: &WatchResponse) -> Vec<Delivered> {
    let events = response.events().iter();
    let delivered = events.map(|event| Delivered {
        revision: event.revision().get(),
        key: event.kv().key().to_vec(),
        version: match event.kind() {
            EventKind::Put => event.kv().version(),
            _ => 0,
        },
    });
    delivered.collect()
}

/// Reads the changes of the mirror, the view and the registrations.
fn drain(stage: &Stage, load: &Load) {
    while !stage.is_over() {
        load.mirror.changes().try_iter().for_each(drop);
        load.view.changes().try_iter().for_each(drop);
        for registration in &load.registrations {
            registration.states().try_iter().for_each(drop);
        }
        thread::sleep(POLL);
    }
}

/// Takes a lock and releases it, with a session of its own each time.
fn lock(stage: &Stage, client: &Client) {
    while stage.works() {
        if let Ok(session) = Session::builder(client).ttl(TTL).start() {
            let mutex = concurrency::Mutex::new(&session, "lock/soak");
            if let Ok(guard) = mutex.lock_timeout(TTL) {
                thread::sleep(POLL);
                // It may be lost.
                let _ = guard.unlock();
            }
            let _ = session.close();
        }
        thread::sleep(POLL);
    }
}

//! What all threads of a run share, and how they record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use etcd_blocking::{Error, KeyValue};

use crate::history::{Kv, Outcome, Recorder, Recorders};

/// A condition that takes longer is printed.
const SLOW: Duration = Duration::from_secs(10);

/// The state of a run.
#[derive(Debug)]
pub struct Stage {
    pub recorders: Recorders,
    pub seed: u64,
    /// No new work begins.
    pub ending: AtomicBool,
    /// Nothing is read any more.
    pub over: AtomicBool,
    /// The number of the store; each loss of the data begins another one.
    pub era: AtomicU32,
    /// The answers of each client.
    answers: Mutex<BTreeMap<u32, Arc<AtomicU64>>>,
    /// How far each reader and member is.
    reached: Mutex<BTreeMap<String, Arc<AtomicI64>>>,
}

impl Stage {
    pub fn new(recorders: Recorders, seed: u64) -> Self {
        Stage {
            recorders,
            seed,
            ending: AtomicBool::new(false),
            over: AtomicBool::new(false),
            era: AtomicU32::new(0),
            answers: Mutex::default(),
            reached: Mutex::default(),
        }
    }

    pub fn file(&self, name: &str) -> Recorder {
        self.recorders.file(name)
    }

    pub fn works(&self) -> bool {
        !self.ending.load(SeqCst)
    }

    pub fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// The counter of the answers of a client.
    pub fn answers_of(&self, client: u32) -> Arc<AtomicU64> {
        Arc::clone(self.answers.lock().unwrap().entry(client).or_default())
    }

    /// The answers of each client.
    pub fn answers(&self) -> Vec<u64> {
        let answers = self.answers.lock().unwrap();
        answers.values().map(|count| count.load(SeqCst)).collect()
    }

    /// How far a reader or a member is.
    pub fn reached(&self, name: &str) -> Arc<AtomicI64> {
        let mut reached = self.reached.lock().unwrap();
        Arc::clone(reached.entry(name.to_owned()).or_default())
    }

    /// The readers and members that have not got so far.
    pub fn behind(&self, fits: impl Fn(&str) -> bool, revision: i64) -> Vec<String> {
        let reached = self.reached.lock().unwrap();
        let behind = reached
            .iter()
            .filter(|(name, at)| fits(name) && at.load(SeqCst) < revision);
        behind
            .map(|(name, at)| format!("{name} at {}", at.load(SeqCst)))
            .collect()
    }

    /// The lowest revision of the readers and members that fit.
    pub fn lowest(&self, fits: impl Fn(&str) -> bool) -> Option<i64> {
        let reached = self.reached.lock().unwrap();
        let fitting = reached.iter().filter(|(name, _)| fits(name));
        fitting.map(|(_, at)| at.load(SeqCst)).min()
    }

    /// The members report the revisions of another store from now on.
    pub fn new_store(&self) {
        self.era.fetch_add(1, SeqCst);
        let reached = self.reached.lock().unwrap();
        let truths = reached
            .iter()
            .filter(|(name, _)| name.starts_with("truth-"));
        truths.for_each(|(_, at)| at.store(0, SeqCst));
    }

    /// A member that was removed reports nothing any more.
    pub fn forget(&self, name: &str) {
        self.reached.lock().unwrap().remove(name);
    }
}

/// Waits for a condition; says what is missing when it does not come in time.
pub fn wait(limit: Duration, what: &str, mut missing: impl FnMut() -> Vec<String>) -> bool {
    let begun = Instant::now();
    let mut said = begun;
    loop {
        let now = missing();
        if said.elapsed() > SLOW && !now.is_empty() {
            said = Instant::now();
            println!("after {:.1?}: {what}: {now:?}", begun.elapsed());
        }
        if now.is_empty() {
            return true;
        }
        if begun.elapsed() > limit {
            println!("not within {limit:?}: {what}: {now:?}");
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A key value as it is recorded.
pub fn recorded(kv: &KeyValue) -> Kv {
    Kv {
        key: kv.key_lossy().into_owned(),
        value: String::from_utf8_lossy(kv.value()).into_owned(),
        create: kv.create_revision().get(),
        modified: kv.mod_revision().get(),
        version: kv.version(),
        lease: kv.lease().map_or(0, |lease| lease.get()),
    }
}

/// An error as it is recorded.
pub fn failed(error: &Error) -> Outcome {
    Outcome::Err {
        kind: format!("{:?}", error.kind()),
        maybe_applied: error.outcome_unknown(),
        text: error.to_string(),
    }
}

//! Counters that several clients increment with conditional transactions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use etcd_blocking::{Client, Compare, Put, Revision, Txn};

use super::Run;
use super::histories::Histories;

pub(super) const KEYS: usize = 99;
pub(super) const PREFIX: &str = "app/count/";

pub(super) fn key(n: usize) -> String {
    format!("{PREFIX}{n:02}")
}

/// The result of an attempt to add one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done(Revision),
    NotDone,
    InDoubt,
}

/// One transaction; no two write the same value.
#[derive(Debug)]
pub(super) struct Attempt {
    key: usize,
    value: String,
    outcome: Outcome,
}

#[derive(Debug)]
pub(super) struct Counters {
    /// The highest acknowledged version of each key.
    known: Vec<AtomicI64>,
    done: AtomicU64,
}

impl Counters {
    pub(super) fn new() -> Self {
        Counters {
            known: (0..KEYS).map(|_| AtomicI64::new(0)).collect(),
            done: AtomicU64::new(0),
        }
    }

    /// The number of acknowledged transactions.
    pub(super) fn done(&self) -> u64 {
        self.done.load(SeqCst)
    }

    /// Adds one to one counter after another until the run is over.
    pub(super) fn add(&self, run: &Run, writer: usize) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        // A sequence that differs between threads and reaches every key.
        let mut chance = writer as u64 + 1;
        while run.is_running() {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let draw = (chance >> 33) as usize;
            // Half of the transactions use three keys, so that they conflict.
            let key = if draw.is_multiple_of(2) {
                draw / 2 % 3
            } else {
                draw / 2 % KEYS
            };
            if let Some(outcome) = self.add_one(run, key, format!("{writer}.{}", attempts.len())) {
                attempts.push(outcome);
            }
            // A few hundred calls per second are enough, and do not overload the servers.
            thread::sleep(Duration::from_millis(2));
        }
        attempts
    }

    fn add_one(&self, run: &Run, n: usize, name: String) -> Option<Attempt> {
        let known = self.known[n].load(SeqCst);
        let read = match run.client.get(key(n)) {
            Ok(read) => read,
            Err(error) => {
                run.tally.failed("read", &error);
                return None;
            }
        };
        run.tally.count("read");
        let (version, revision, count) = match &read {
            Some(kv) => (
                kv.version(),
                kv.mod_revision(),
                count(kv.value_str().unwrap()),
            ),
            None => (0, Revision::NONE, 0),
        };
        assert!(version >= known, "a read of {} is stale", key(n));
        assert_eq!(count, version, "an update of {} is lost", key(n));
        let value = format!("{} {name}", count + 1);
        let unchanged = Compare::mod_revision(key(n)).eq(revision);
        let txn = Txn::when([unchanged]).then([Put::new(key(n), value.clone())]);
        let outcome = match run.client.txn(txn) {
            Ok(response) if response.succeeded() => {
                run.tally.count("add: acknowledged");
                self.known[n].fetch_max(version + 1, SeqCst);
                self.done.fetch_add(1, SeqCst);
                Outcome::Done(response.revision())
            }
            Ok(_) => {
                run.tally.count("add: conflict");
                Outcome::NotDone
            }
            Err(error) => {
                run.tally.failed("add", &error);
                match error.outcome_unknown() {
                    true => Outcome::InDoubt,
                    false => Outcome::NotDone,
                }
            }
        };
        Some(Attempt {
            key: n,
            value,
            outcome,
        })
    }
}

/// The number in a value.
fn count(value: &str) -> i64 {
    value.split(' ').next().unwrap().parse().unwrap()
}

/// Each acknowledged transaction was executed once, at its revision; none was executed that was
/// refused; one of unknown outcome was executed at most once. `histories` are complete.
pub(super) fn check(run: &Run, client: &Client, attempts: &[Attempt], histories: &Histories) {
    let stored = client.get_prefix(PREFIX).unwrap();
    let by_value: HashMap<&str, &Attempt> = attempts
        .iter()
        .map(|attempt| (attempt.value.as_str(), attempt))
        .collect();
    assert_eq!(by_value.len(), attempts.len());
    let (mut done, mut after_all) = (0, 0);
    for kv in &stored {
        let n = kv.key_lossy()[PREFIX.len()..].parse().unwrap();
        let history = histories.of(&key(n));
        assert_eq!(history.len() as i64, kv.version(), "{}", key(n));
        for (version, revision, value) in &history {
            assert_eq!(count(value), *version, "an update of {} is lost", key(n));
            let attempt = by_value
                .get(value.as_str())
                .expect("a recorded attempt wrote it");
            assert_eq!(attempt.key, n);
            match attempt.outcome {
                Outcome::Done(at) => {
                    assert_eq!(at, *revision, "{value}");
                    done += 1;
                }
                Outcome::InDoubt => after_all += 1,
                Outcome::NotDone => panic!("{value} of {} must not be written", key(n)),
            }
        }
        let last = history.last().unwrap();
        assert_eq!(kv.mod_revision(), last.1);
        assert_eq!(kv.value(), last.2.as_str());
    }
    let all =
        |outcome: fn(&Outcome) -> bool| attempts.iter().filter(|a| outcome(&a.outcome)).count();
    assert_eq!(done, all(|outcome| matches!(outcome, Outcome::Done(_))));
    println!(
        "{} attempts: {done} acknowledged, {} in doubt of which {after_all} were done; {} events",
        attempts.len(),
        all(|outcome| *outcome == Outcome::InDoubt),
        done + after_all,
    );
    assert!(run.counters.done() == done as u64 && done > 0);
}

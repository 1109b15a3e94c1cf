//! The store of the model: keys on leases, with a history that watches read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;

use crate::discovery::register::owned_key::{Expect, Step};
use crate::types::{KeyValue, LeaseId, Revision};

/// What a transaction answers: its revision, and for each step whether it was done or what was there
/// instead; `None` when a lease was not found, and nothing was done.
pub(super) type Answer = Option<(Revision, Vec<Result<(), Option<KeyValue>>>)>;

/// A change of a key.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) at: i64,
    pub(super) key: Bytes,
    pub(super) kv: Option<KeyValue>,
}

#[derive(Debug)]
pub(super) struct Store {
    keys: BTreeMap<Bytes, KeyValue>,
    leases: BTreeSet<LeaseId>,
    granted: i64,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    history: Vec<Event>,
    pub(super) writes: usize,
}

impl Store {
    pub(super) fn new() -> Self {
        Store {
            keys: BTreeMap::new(),
            leases: BTreeSet::new(),
            granted: 0,
            revision: 1,
            compacted: 0,
            history: Vec::new(),
            writes: 0,
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    pub(super) fn grant(&mut self) -> LeaseId {
        self.granted += 1;
        let lease = LeaseId::new(self.granted).unwrap();
        self.leases.insert(lease);
        lease
    }

    pub(super) fn lives(&self, lease: LeaseId) -> bool {
        self.leases.contains(&lease)
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = LeaseId> {
        self.leases.iter().copied()
    }

    /// The lease ends, and every key on it is deleted.
    pub(super) fn expire(&mut self, lease: Option<LeaseId>) {
        let Some(lease) = lease.filter(|lease| self.leases.remove(lease)) else {
            return;
        };
        let on_it = self.keys.values().filter(|kv| kv.lease() == Some(lease));
        let keys: Vec<_> = on_it.map(|kv| kv.key().clone()).collect();
        if !keys.is_empty() {
            self.revision += 1;
            keys.into_iter().for_each(|key| self.set(key, None));
        }
    }

    pub(super) fn delete(&mut self, key: &'static str) {
        if self.keys.contains_key(key.as_bytes()) {
            self.revision += 1;
            self.set(key.into(), None);
        }
    }

    pub(super) fn put(&mut self, key: &'static str, value: Bytes, lease: Option<LeaseId>) {
        self.revision += 1;
        self.set(key.into(), Some((value, lease)));
    }

    /// Another value, and the lease that the key hangs on already.
    pub(super) fn overwrite(&mut self, key: &'static str, value: &'static str) {
        let lease = self.get(key.as_bytes()).and_then(KeyValue::lease);
        self.put(key, value.into(), lease);
    }

    /// Changes a key at the revision that is being made.
    fn set(&mut self, key: Bytes, to: Option<(Bytes, Option<LeaseId>)>) {
        let at = self.revision;
        let kv = to.map(|(value, lease)| {
            let version = self.keys.get(&key).map_or(1, |kv| kv.version() + 1);
            KeyValue {
                key: key.clone(),
                value,
                lease: lease.map_or(0, LeaseId::get),
                mod_revision: at,
                version,
                ..KeyValue::default()
            }
        });
        match &kv {
            Some(kv) => drop(self.keys.insert(key.clone(), kv.clone())),
            None => drop(self.keys.remove(&key)),
        }
        self.history.push(Event { at, key, kv });
    }

    /// Whether a step would be done to this key.
    pub(super) fn holds(&self, kv: &KeyValue, step: Step) -> bool {
        match step {
            Step::Write(Expect::Absent, _) => false,
            Step::Write(Expect::Unchanged(at, on), _) => {
                (kv.mod_revision(), kv.lease()) == (at, on)
            }
            Step::Write(Expect::Lease(on), _) | Step::Delete(on) => kv.lease() == Some(on),
            Step::Look => false,
        }
    }

    pub(super) fn transact(&mut self, steps: &[(Bytes, Bytes, Step)]) -> Answer {
        let mut names: Vec<_> = steps.iter().map(|(key, ..)| key).collect();
        names.sort();
        names.dedup();
        assert_eq!(
            names.len(),
            steps.len(),
            "etcd refuses two steps to one key"
        );
        let done = |(key, _, step): &(Bytes, Bytes, Step)| match (self.get(key), step) {
            (None, Step::Write(Expect::Absent, _)) => true,
            (None, _) => false,
            (Some(kv), step) => self.holds(kv, *step),
        };
        let done: Vec<bool> = steps.iter().map(done).collect();
        for ((_, _, step), done) in steps.iter().zip(&done) {
            if let (Step::Write(_, lease), true) = (step, done)
                && !self.lives(*lease)
            {
                return None;
            }
        }
        self.revision += i64::from(done.contains(&true));
        let mut answers = Vec::new();
        for ((key, value, step), done) in steps.iter().zip(done) {
            answers.push(match (done, *step) {
                (false, _) | (true, Step::Look) => Err(self.get(key).cloned()),
                (true, Step::Delete(_)) => {
                    self.set(key.clone(), None);
                    Ok(())
                }
                (true, Step::Write(_, lease)) => {
                    self.writes += 1;
                    self.set(key.clone(), Some((value.clone(), Some(lease))));
                    Ok(())
                }
            });
        }
        Some((Revision::new(self.revision), answers))
    }

    /// The events of a key from a revision on.
    pub(super) fn events(&self, key: &Bytes, from: i64) -> impl Iterator<Item = &Event> {
        let events = self.history.iter();
        events.filter(move |event| event.at >= from && event.key == *key)
    }

    pub(super) fn compact(&mut self, rng: &mut Rng) {
        self.compacted = rng.i64(self.compacted..=self.revision);
    }

    /// Everything is lost.
    pub(super) fn wipe(&mut self) {
        // A lease of the new store has another id than any before.
        *self = Store {
            granted: self.granted,
            writes: self.writes,
            ..Store::new()
        };
    }
}

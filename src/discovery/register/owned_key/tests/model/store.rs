//! The store of the model: keys on leases, with a history that watches read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;

use crate::discovery::register::key_step::{KeyStep, WriteCondition};
use crate::types::{KeyValue, LeaseId, Revision};

/// The response to a transaction: its revision, and for each step whether it was executed or what the
/// key was instead. `None` means that a lease was not found, and that nothing was executed.
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

    /// Expires a lease, and deletes every key attached to it.
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

    /// Puts another value, and keeps the lease of the key.
    pub(super) fn overwrite(&mut self, key: &'static str, value: &'static str) {
        let lease = self.get(key.as_bytes()).and_then(KeyValue::lease);
        self.put(key, value.into(), lease);
    }

    /// Changes a key at the current revision.
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

    /// Whether the condition of a step holds for this key.
    pub(super) fn holds(&self, kv: &KeyValue, step: KeyStep) -> bool {
        match step {
            KeyStep::Write(WriteCondition::Absent, _) => false,
            KeyStep::Write(WriteCondition::Unchanged(at, on), _) => {
                (kv.mod_revision(), kv.lease()) == (at, on)
            }
            KeyStep::Write(WriteCondition::OnLease(on), _) | KeyStep::Delete(on) => {
                kv.lease() == Some(on)
            }
            KeyStep::Read => false,
        }
    }

    pub(super) fn transact(&mut self, steps: &[(Bytes, Bytes, KeyStep)]) -> Answer {
        let mut names: Vec<_> = steps.iter().map(|(key, ..)| key).collect();
        names.sort();
        names.dedup();
        assert_eq!(
            names.len(),
            steps.len(),
            "etcd refuses two steps to one key"
        );
        let done = |(key, _, step): &(Bytes, Bytes, KeyStep)| match (self.get(key), step) {
            (None, KeyStep::Write(WriteCondition::Absent, _)) => true,
            (None, _) => false,
            (Some(kv), step) => self.holds(kv, *step),
        };
        let done: Vec<bool> = steps.iter().map(done).collect();
        for ((_, _, step), done) in steps.iter().zip(&done) {
            if let (KeyStep::Write(_, lease), true) = (step, done)
                && !self.lives(*lease)
            {
                return None;
            }
        }
        self.revision += i64::from(done.contains(&true));
        let mut answers = Vec::new();
        for ((key, value, step), done) in steps.iter().zip(done) {
            answers.push(match (done, *step) {
                (false, _) | (true, KeyStep::Read) => Err(self.get(key).cloned()),
                (true, KeyStep::Delete(_)) => {
                    self.set(key.clone(), None);
                    Ok(())
                }
                (true, KeyStep::Write(_, lease)) => {
                    self.writes += 1;
                    self.set(key.clone(), Some((value.clone(), Some(lease))));
                    Ok(())
                }
            });
        }
        Some((Revision::new(self.revision), answers))
    }

    /// The events of a key, from this revision on.
    pub(super) fn events(&self, key: &Bytes, from: i64) -> impl Iterator<Item = &Event> {
        let events = self.history.iter();
        events.filter(move |event| event.at >= from && event.key == *key)
    }

    pub(super) fn compact(&mut self, rng: &mut Rng) {
        self.compacted = rng.i64(self.compacted..=self.revision);
    }

    /// Loses all data.
    pub(super) fn wipe(&mut self) {
        // Lease ids of the new store differ from all earlier ones.
        *self = Store {
            granted: self.granted,
            writes: self.writes,
            ..Store::new()
        };
    }
}

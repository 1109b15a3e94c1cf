//! A process of the model: its owned keys, its lease, one transaction at a time, and its watches.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;

use super::store::{Answer, Store};
use super::valid;
use crate::discovery::register::key_phase::Phase;
use crate::discovery::register::key_queue::KeyQueue;
use crate::discovery::register::key_step::KeyStep;
use crate::discovery::register::on_conflict::OnConflict;
use crate::discovery::register::owned_key::OwnedKey;
use crate::discovery::register::registrar_leases::RegistrarLeases;
use crate::types::LeaseId;

#[derive(Debug)]
pub(super) struct Process {
    name: usize,
    pub(super) leases: RegistrarLeases,
    pub(super) retired: Vec<LeaseId>,
    entries: BTreeMap<u64, Entry>,
    key_queue: KeyQueue,
    numbers: u64,
    pub(super) flight: Option<Flight>,
}

#[derive(Debug)]
struct Entry {
    owned_key: OwnedKey,
    /// The first revision that the watch has not delivered.
    watch: Option<i64>,
    /// The store was rewound, and the watch will report it.
    rewound: bool,
}

/// A transaction in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) steps: Vec<SentStep>,
    /// The answer, once the server has executed it.
    pub(super) answer: Option<Answer>,
}

#[derive(Debug)]
pub(super) struct SentStep {
    number: u64,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) step: KeyStep,
}

impl Process {
    pub(super) fn new(name: usize) -> Self {
        Process {
            name,
            leases: RegistrarLeases::default(),
            retired: Vec::new(),
            entries: BTreeMap::new(),
            key_queue: KeyQueue::default(),
            numbers: 0,
            flight: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn owned_keys(&self, key: &str) -> impl Iterator<Item = &OwnedKey> {
        let owned_keys = self.entries.values().map(|entry| &entry.owned_key);
        owned_keys.filter(move |owned_key| owned_key.key == key)
    }

    pub(super) fn holds(&self, key: &str) -> Option<u64> {
        let held = |entry: &Entry| {
            entry.owned_key.key == key && matches!(entry.owned_key.phase, Phase::Held { .. })
        };
        let mut entries = self.entries.iter();
        entries.find(|(_, entry)| held(entry)).map(|(n, _)| *n)
    }

    pub(super) fn any(&self, rng: &mut Rng) -> Option<u64> {
        let numbers: Vec<_> = self.entries.keys().copied().collect();
        rng.choice(numbers)
    }

    pub(super) fn wants_a_lease(&self) -> bool {
        let mut owned_keys = self.entries.values().map(|entry| &entry.owned_key);
        self.leases.current.is_none() && owned_keys.any(|owned_key| !owned_key.is_leaving())
    }

    pub(super) fn register(&mut self, key: Bytes, value: Bytes, policy: OnConflict) {
        let last = self.key_queue.last(&key).and_then(|n| self.entries.get(&n));
        if last.is_some_and(|entry| !entry.owned_key.is_leaving()) {
            return;
        }
        self.numbers += 1;
        self.key_queue.join(key.clone(), self.numbers);
        let entry = Entry {
            owned_key: OwnedKey::new(key, value, policy),
            watch: None,
            rewound: false,
        };
        self.entries.insert(self.numbers, entry);
    }

    pub(super) fn update(&mut self, number: u64, value: Bytes) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.owned_key.update(value);
        }
    }

    pub(super) fn withdraw(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.owned_key.withdraw();
        }
    }

    pub(super) fn leave(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.owned_key.leave();
        }
        self.settle();
    }

    pub(super) fn lose_lease(&mut self) {
        if let Some(lost) = self.leases.lost() {
            for entry in self.entries.values_mut() {
                entry.owned_key.lease_lost(lost);
            }
        }
        self.settle();
    }

    /// Stops renewing the lease. Another one will be granted.
    pub(super) fn retire_lease(&mut self) {
        if let Some(retired) = self.leases.retire() {
            self.retired.push(retired);
            for entry in self.entries.values_mut() {
                entry.owned_key.lease_retired(retired);
            }
        }
    }

    pub(super) fn lose_retired(&mut self, store: &Store) {
        let gone = |lease: &mut LeaseId| !store.lives(*lease);
        for lost in self.retired.extract_if(.., gone).collect::<Vec<_>>() {
            self.leases.retired_lost(lost);
            for entry in self.entries.values_mut() {
                entry.owned_key.retired_lost(lost);
            }
        }
        self.settle();
    }

    pub(super) fn send(&mut self) {
        if self.flight.is_some() {
            return;
        }
        let mut steps = Vec::new();
        for (number, entry) in &mut self.entries {
            let owned_key = &mut entry.owned_key;
            if !self.key_queue.waits(*number)
                && let Some(step) = owned_key.due(&self.leases)
            {
                let value = owned_key.next_value().clone();
                owned_key.begin(step);
                steps.push(SentStep {
                    number: *number,
                    key: owned_key.key.clone(),
                    value,
                    step,
                });
            }
        }
        let answer = None;
        self.flight = (!steps.is_empty()).then_some(Flight { steps, answer });
    }

    pub(super) fn is_executed(&self) -> bool {
        self.flight
            .as_ref()
            .is_some_and(|flight| flight.answer.is_some())
    }

    pub(super) fn take_answer(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let Some(Some((at, answers))) = flight.answer else {
            // The lease is not found.
            self.flight = Some(flight);
            return self.fail();
        };
        for (sent, answer) in flight.steps.iter().zip(answers) {
            let owned_key = &mut self.entries.get_mut(&sent.number).unwrap().owned_key;
            let _ = match answer {
                Ok(()) => owned_key.done(at, &self.leases, valid),
                Err(kv) => owned_key.found(at, kv.as_ref(), &self.leases, valid),
            };
        }
        self.settle();
    }

    /// Loses the answer, except for one that says that the lease does not exist.
    pub(super) fn fail(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let mut lease = None;
        for sent in &flight.steps {
            self.entries
                .get_mut(&sent.number)
                .unwrap()
                .owned_key
                .failed();
            if let KeyStep::Write(_, on) = sent.step {
                lease = Some(on);
            }
        }
        if flight.answer == Some(None) && lease == self.leases.current {
            self.lose_lease();
        }
        self.settle();
    }

    /// The server refuses the transaction, and executes nothing of it.
    pub(super) fn refused(&mut self) {
        if self.is_executed() {
            return;
        }
        let steps = self
            .flight
            .take()
            .map_or_else(Vec::new, |flight| flight.steps);
        let alone = steps.len() == 1;
        for sent in steps {
            let owned_key = &mut self.entries.get_mut(&sent.number).unwrap().owned_key;
            owned_key.refused(alone);
        }
        self.settle();
    }

    /// Watches the keys that must be watched and are not.
    pub(super) fn watch(&mut self) {
        for entry in self.entries.values_mut() {
            if let (Some(after), None) = (entry.owned_key.watch_after(), entry.watch) {
                entry.watch = Some(after.get() + 1);
                entry.rewound = false;
            }
        }
    }

    /// Delivers some events of one watch. Returns whether there were any.
    pub(super) fn deliver(&mut self, number: u64, store: &Store, count: usize) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else {
            return false;
        };
        let Some(next) = entry.watch else {
            return false;
        };
        if entry.rewound || next <= store.compacted || next > store.revision + 1 {
            self.unwatch(number);
            return true;
        }
        let events: Vec<_> = store
            .events(&entry.owned_key.key, next)
            .take(count)
            .collect();
        for event in &events {
            entry.watch = Some(event.at + 1);
            let (at, kv) = (crate::types::Revision::new(event.at), event.kv.clone());
            let _ = entry.owned_key.event(at, kv, &self.leases, valid);
        }
        let delivered = !events.is_empty();
        self.settle();
        delivered
    }

    pub(super) fn deliver_all(&mut self, store: &Store) -> bool {
        let numbers: Vec<_> = self.entries.keys().copied().collect();
        let mut delivered = false;
        for number in numbers {
            delivered |= self.deliver(number, store, usize::MAX);
        }
        delivered
    }

    pub(super) fn unwatch(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number)
            && entry.watch.take().is_some()
        {
            entry.owned_key.watch_interrupted();
        }
        self.settle();
    }

    /// Breaks the connection when the store is rewound: answers that were not delivered are lost, and
    /// watches report the rewind. A store that reaches its old revision before the watches are
    /// resumed is outside the guarantees of watches.
    pub(super) fn store_went_back(&mut self) {
        if self.is_executed() {
            self.fail();
        }
        self.watch();
        for entry in self.entries.values_mut() {
            entry.rewound = entry.watch.is_some();
        }
    }

    fn settle(&mut self) {
        let key_queue = &mut self.key_queue;
        self.entries.retain(|number, entry| {
            let left = entry.owned_key.phase == Phase::Released;
            if left {
                key_queue.leave(&entry.owned_key.key, *number);
            }
            !left
        });
        let names = format!("process{} ", self.name);
        for entry in self.entries.values() {
            assert!(entry.owned_key.value.starts_with(names.as_bytes()));
        }
    }
}

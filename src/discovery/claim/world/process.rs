//! A process of the model: its claims, its lease, one transaction at a time, and its watches.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;

use super::store::{Answer, Store};
use super::valid;
use crate::discovery::claim::{Claim, Phase, Step};
use crate::discovery::leases::Leases;
use crate::discovery::registrar::OnConflict;
use crate::discovery::turns::Turns;
use crate::types::LeaseId;

#[derive(Debug)]
pub(super) struct Process {
    name: usize,
    pub(super) leases: Leases,
    pub(super) retired: Vec<LeaseId>,
    entries: BTreeMap<u64, Entry>,
    turns: Turns,
    numbers: u64,
    pub(super) flight: Option<Flight>,
}

#[derive(Debug)]
struct Entry {
    claim: Claim,
    /// The first revision that the watch has not delivered.
    watch: Option<i64>,
    /// The store went back, and the watch will say so.
    rewound: bool,
}

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) steps: Vec<Sent>,
    /// Once it was executed.
    pub(super) answer: Option<Answer>,
}

#[derive(Debug)]
pub(super) struct Sent {
    number: u64,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) step: Step,
}

impl Process {
    pub(super) fn new(name: usize) -> Self {
        Process {
            name,
            leases: Leases::default(),
            retired: Vec::new(),
            entries: BTreeMap::new(),
            turns: Turns::default(),
            numbers: 0,
            flight: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn claims(&self, key: &str) -> impl Iterator<Item = &Claim> {
        let claims = self.entries.values().map(|entry| &entry.claim);
        claims.filter(move |claim| claim.key == key)
    }

    pub(super) fn holds(&self, key: &str) -> Option<u64> {
        let held = |entry: &Entry| {
            entry.claim.key == key && matches!(entry.claim.phase, Phase::Held { .. })
        };
        let mut entries = self.entries.iter();
        entries.find(|(_, entry)| held(entry)).map(|(n, _)| *n)
    }

    pub(super) fn any(&self, rng: &mut Rng) -> Option<u64> {
        let numbers: Vec<_> = self.entries.keys().copied().collect();
        rng.choice(numbers)
    }

    pub(super) fn wants_a_lease(&self) -> bool {
        let mut claims = self.entries.values().map(|entry| &entry.claim);
        self.leases.current.is_none() && claims.any(|claim| !claim.is_leaving())
    }

    pub(super) fn register(&mut self, key: Bytes, value: Bytes, policy: OnConflict) {
        let last = self.turns.last(&key).and_then(|n| self.entries.get(&n));
        if last.is_some_and(|entry| !entry.claim.is_leaving()) {
            return;
        }
        self.numbers += 1;
        self.turns.join(key.clone(), self.numbers);
        let entry = Entry {
            claim: Claim::new(key, value, policy),
            watch: None,
            rewound: false,
        };
        self.entries.insert(self.numbers, entry);
    }

    pub(super) fn update(&mut self, number: u64, value: Bytes) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.claim.update(value);
        }
    }

    pub(super) fn leave(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.claim.leave();
        }
        self.settle();
    }

    pub(super) fn lose_lease(&mut self) {
        if let Some(lost) = self.leases.lost() {
            for entry in self.entries.values_mut() {
                entry.claim.lease_lost(lost);
            }
        }
        self.settle();
    }

    /// The lease is not renewed any more; another is to take its place.
    pub(super) fn retire_lease(&mut self) {
        if let Some(retired) = self.leases.retire() {
            self.retired.push(retired);
            for entry in self.entries.values_mut() {
                entry.claim.lease_retired(retired);
            }
        }
    }

    pub(super) fn lose_retired(&mut self, store: &Store) {
        let gone = |lease: &mut LeaseId| !store.lives(*lease);
        for lost in self.retired.extract_if(.., gone).collect::<Vec<_>>() {
            self.leases.retired_lost(lost);
            for entry in self.entries.values_mut() {
                entry.claim.retired_lost(lost);
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
            let claim = &mut entry.claim;
            if !self.turns.waits(*number)
                && let Some(step) = claim.due(&self.leases)
            {
                let value = claim.next_value().clone();
                claim.begin(step);
                steps.push(Sent {
                    number: *number,
                    key: claim.key.clone(),
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
            let claim = &mut self.entries.get_mut(&sent.number).unwrap().claim;
            let _ = match answer {
                Ok(()) => claim.done(at, &self.leases, valid),
                Err(kv) => claim.found(at, kv.as_ref(), &self.leases, valid),
            };
        }
        self.settle();
    }

    /// Whatever became of it, there is no answer but maybe that the lease is gone.
    pub(super) fn fail(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let mut lease = None;
        for sent in &flight.steps {
            self.entries.get_mut(&sent.number).unwrap().claim.failed();
            if let Step::Write(_, on) = sent.step {
                lease = Some(on);
            }
        }
        if flight.answer == Some(None) && lease == self.leases.current {
            self.lose_lease();
        }
        self.settle();
    }

    /// The server refused what was sent, and so did nothing of it.
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
            let claim = &mut self.entries.get_mut(&sent.number).unwrap().claim;
            claim.refused(alone);
        }
        self.settle();
    }

    /// Watches what matters and is not watched.
    pub(super) fn watch(&mut self) {
        for entry in self.entries.values_mut() {
            if let (Some(after), None) = (entry.claim.watch_after(), entry.watch) {
                entry.watch = Some(after.get() + 1);
                entry.rewound = false;
            }
        }
    }

    /// Takes some events of one watch; says whether there were any.
    pub(super) fn hear(&mut self, number: u64, store: &Store, count: usize) -> bool {
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
        let events: Vec<_> = store.events(&entry.claim.key, next).take(count).collect();
        for event in &events {
            entry.watch = Some(event.at + 1);
            let (at, kv) = (crate::types::Revision::new(event.at), event.kv.clone());
            let _ = entry.claim.event(at, kv, &self.leases, valid);
        }
        let heard = !events.is_empty();
        self.settle();
        heard
    }

    pub(super) fn hear_all(&mut self, store: &Store) -> bool {
        let numbers: Vec<_> = self.entries.keys().copied().collect();
        let mut heard = false;
        for number in numbers {
            heard |= self.hear(number, store, usize::MAX);
        }
        heard
    }

    pub(super) fn unwatch(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number)
            && entry.watch.take().is_some()
        {
            entry.claim.unwatched();
        }
        self.settle();
    }

    /// The connection breaks with the store: what it answered and was not heard is lost, and watches
    /// find out that history is another. (That a store grows back before anybody looks is beyond
    /// what the watches promise.)
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
        let turns = &mut self.turns;
        self.entries.retain(|number, entry| {
            let left = entry.claim.phase == Phase::Left;
            if left {
                turns.leave(&entry.claim.key, *number);
            }
            !left
        });
        let names = format!("process{} ", self.name);
        for entry in self.entries.values() {
            assert!(entry.claim.value.starts_with(names.as_bytes()));
        }
    }
}

//! Runs attempts against a store in memory, in thousands of random interleavings. Checks that committed
//! transactions are serializable, and that a failed attempt also reads one revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use crate::concurrency::stm::attempt::{Attempt, Fetched, Isolation, ReadAt, Write};
use crate::types::{KeyValue, Revision};

/// The values of all keys that exist at one revision.
type Values = BTreeMap<u8, Vec<u8>>;

/// A store with its whole history.
#[derive(Default)]
struct Store {
    /// The writes of each revision; revision 1 is the empty store.
    history: Vec<BTreeMap<u8, Option<Vec<u8>>>>,
}

impl Store {
    fn revision(&self) -> i64 {
        1 + i64::try_from(self.history.len()).unwrap()
    }

    fn key(&self, key: u8, at: i64) -> Option<KeyValue> {
        let upto = usize::try_from(at - 1).unwrap();
        let last = self.history[..upto].iter().enumerate().rev();
        let (index, value) = last
            .filter_map(|(index, writes)| Some((index, writes.get(&key)?)))
            .next()?;
        Some(KeyValue {
            key: vec![key].into(),
            value: value.clone()?.into(),
            mod_revision: i64::try_from(index).unwrap() + 2,
            ..KeyValue::default()
        })
    }

    fn values(&self, at: i64) -> Values {
        let value = |key| Some((key, self.key(key, at)?.value.to_vec()));
        (0..KEYS).filter_map(value).collect()
    }

    /// Checks all guards, then executes all writes, as etcd does.
    fn commit(&mut self, attempt: &Attempt) -> Option<i64> {
        let holds = attempt.guards().iter().all(|(key, guard)| {
            let kv = self.key(key[0], self.revision());
            guard.holds(kv.map_or(Revision::NONE, |kv| kv.mod_revision()))
        });
        if !holds {
            return None;
        }
        if !attempt.writes().is_empty() {
            let write = |(key, write): (&Bytes, &Write)| match write {
                Write::Put(value, _) => (key[0], Some(value.to_vec())),
                Write::Delete => (key[0], None),
            };
            self.history
                .push(attempt.writes().iter().map(write).collect());
        }
        Some(self.revision())
    }
}

const KEYS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    /// Stores a value that depends on all values that the transaction has read.
    Put(u8),
    Delete(u8),
}

/// A transaction that runs step by step, and starts again after a conflict.
struct Actor {
    number: u8,
    program: Vec<Step>,
    isolation: Isolation,
    next: usize,
    attempt: Attempt,
    /// The values that this attempt has read.
    seen: Vec<(u8, Option<Vec<u8>>)>,
    done: bool,
}

/// A committed transaction: its revision, its program and the values that it read.
struct Record {
    at: i64,
    wrote: bool,
    program: Vec<Step>,
    number: u8,
    seen: Vec<(u8, Option<Vec<u8>>)>,
}

impl Actor {
    fn new(number: u8, program: Vec<Step>, isolation: Isolation) -> Self {
        Actor {
            number,
            program,
            isolation,
            next: 0,
            attempt: Attempt::new(isolation, false),
            seen: Vec::new(),
            done: false,
        }
    }

    fn step(&mut self, store: &mut Store, lag: i64) -> Option<Record> {
        match self.program.get(self.next).cloned() {
            Some(Step::Get(key)) => self.get(key, store, lag),
            Some(Step::Put(key)) => {
                let value = made_of(self.number, &self.seen);
                self.attempt
                    .write(vec![key].into(), Write::Put(value.into(), None));
            }
            Some(Step::Delete(key)) => self.attempt.write(vec![key].into(), Write::Delete),
            None => return self.commit(store),
        }
        self.next += 1;
        None
    }

    fn get(&mut self, key: u8, store: &Store, lag: i64) {
        let name = Bytes::from(vec![key]);
        if let Some(written) = self.attempt.written(&name) {
            return self.seen.push((key, written.map(|value| value.to_vec())));
        }
        if !self.attempt.is_fetched(&name) {
            let at = match self.attempt.read_at() {
                ReadAt::Newest => store.revision(),
                ReadAt::Local => (store.revision() - lag).max(1),
                ReadAt::Pinned(at) => at.get(),
            };
            let found = Fetched::from([(name.clone(), store.key(key, at))]);
            self.attempt.record(Revision::new(at), found);
        }
        let value = self.attempt.read(&name).map(|kv| kv.value().to_vec());
        self.seen.push((key, value));
    }

    fn commit(&mut self, store: &mut Store) -> Option<Record> {
        let wrote = !self.attempt.writes().is_empty();
        let at = if self.attempt.needs_no_commit() {
            self.attempt.base().map_or(1, Revision::get)
        } else if let Some(at) = store.commit(&self.attempt) {
            at
        } else {
            // The refusal returns the keys that were read, all at one revision.
            let again = self
                .attempt
                .read_keys()
                .map(|key| (key.clone(), store.key(key[0], store.revision())));
            let again = again.collect();
            self.attempt = Attempt::new(self.isolation, true);
            self.attempt.record(Revision::new(store.revision()), again);
            self.seen.clear();
            self.next = 0;
            return None;
        };
        self.done = true;
        Some(Record {
            at,
            wrote,
            program: self.program.clone(),
            number: self.number,
            seen: self.seen.clone(),
        })
    }
}

fn made_of(number: u8, seen: &[(u8, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut sum = u64::from(number) + 1;
    for (key, value) in seen {
        for byte in value
            .iter()
            .flatten()
            .chain([key, &u8::from(value.is_some())])
        {
            sum = sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte);
        }
    }
    sum.to_be_bytes().to_vec()
}

/// Runs a program alone on `values`, and returns what it saw.
fn alone(record: &Record, values: &mut Values) -> Vec<(u8, Option<Vec<u8>>)> {
    let mut seen = Vec::new();
    for step in &record.program {
        match step {
            Step::Get(key) => seen.push((*key, values.get(key).cloned())),
            Step::Put(key) => drop(values.insert(*key, made_of(record.number, &seen))),
            Step::Delete(key) => drop(values.remove(key)),
        }
    }
    seen
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..KEYS).prop_map(Step::Get),
        3 => (0..KEYS).prop_map(Step::Put),
        1 => (0..KEYS).prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 1..6)
}

fn levels() -> impl Strategy<Value = Isolation> {
    prop_oneof![
        Just(Isolation::SerializableSnapshot),
        Just(Isolation::Serializable),
        Just(Isolation::RepeatableReads),
    ]
}

/// Runs the programs in the order of `turns`, and then each one to its end.
fn interleave(
    programs: Vec<(Vec<Step>, Isolation)>,
    turns: &[(usize, i64)],
    mut check: impl FnMut(&Actor, &Store),
) -> (Store, Vec<Record>) {
    let mut store = Store::default();
    let mut records = Vec::new();
    let numbered = programs.into_iter().zip(0..);
    let mut actors: Vec<Actor> = numbered
        .map(|((program, level), number)| Actor::new(number, program, level))
        .collect();
    let rest = (0..actors.len()).flat_map(|index| std::iter::repeat_n((index, 0), 40));
    for (index, lag) in turns.iter().copied().chain(rest) {
        let actors_len = actors.len();
        let actor = &mut actors[index % actors_len];
        if !actor.done {
            records.extend(actor.step(&mut store, lag));
            check(actor, &store);
        }
    }
    assert!(
        actors.iter().all(|actor| actor.done),
        "a transaction without competitors commits"
    );
    (store, records)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn committed_transactions_are_serializable(
        programs in prop::collection::vec((steps(), levels()), 2..6),
        turns in prop::collection::vec((0usize..6, 0i64..3), 0..60),
    ) {
        let (store, mut records) = interleave(programs, &turns, |_, _| {});
        // The order of revisions; a transaction without writes follows the writes that it read.
        records.sort_by_key(|record| (record.at, !record.wrote));
        let mut values = Values::new();
        for record in &records {
            let seen = alone(record, &mut values);
            prop_assert_eq!(&seen, &record.seen, "at revision {}", record.at);
        }
        prop_assert_eq!(values, store.values(store.revision()));
    }

    #[test]
    fn attempts_at_the_serializable_levels_read_one_revision_even_if_they_fail(
        programs in prop::collection::vec((steps(), prop_oneof![
            Just(Isolation::SerializableSnapshot),
            Just(Isolation::Serializable),
        ]), 2..6),
        turns in prop::collection::vec((0usize..6, 0i64..3), 0..60),
    ) {
        interleave(programs, &turns, |actor, store| {
            let Some(base) = actor.attempt.base() else {
                return;
            };
            let values = store.values(base.get());
            let mut own = Values::new();
            let mut gone = Vec::new();
            let upto = actor.program.iter().take(actor.next);
            let mut seen = actor.seen.iter();
            for step in upto {
                match step {
                    Step::Get(key) => {
                        let (_, value) = seen.next().unwrap();
                        if !own.contains_key(key) && !gone.contains(key) {
                            assert_eq!(value.as_ref(), values.get(key));
                        }
                    }
                    Step::Put(key) => drop(own.insert(*key, Vec::new())),
                    Step::Delete(key) => gone.push(*key),
                }
            }
        });
    }
}

#[test]
fn only_read_committed_loses_updates() {
    let lost = |level| {
        let program = vec![Step::Get(0), Step::Put(0)];
        let both = vec![(program.clone(), level), (program, level)];
        // Both read, then both commit.
        let turns: Vec<_> = [0, 1, 0, 1, 0, 1].map(|index| (index, 0)).into();
        let (_, records) = interleave(both, &turns, |_, _| {});
        records.iter().all(|record| record.seen == [(0, None)])
    };
    assert!(lost(Isolation::ReadCommitted));
    for level in [
        Isolation::SerializableSnapshot,
        Isolation::Serializable,
        Isolation::RepeatableReads,
    ] {
        assert!(!lost(level), "{level:?}");
    }
}

#[test]
fn only_snapshot_isolation_conflicts_on_a_key_that_was_only_written() {
    let conflicts = |level| {
        let mut store = Store::default();
        let mut attempt = Attempt::new(level, false);
        let key = |key: u8| Bytes::from(vec![key]);
        attempt.record(Revision::new(1), Fetched::from([(key(0), None)]));
        attempt.read(&key(0));
        attempt.write(key(1), Write::Put("mine".into(), None));
        let mut other = Attempt::new(level, false);
        other.write(key(1), Write::Put("theirs".into(), None));
        store.commit(&other).unwrap();
        store.commit(&attempt).is_none()
    };
    assert!(conflicts(Isolation::SerializableSnapshot));
    assert!(!conflicts(Isolation::Serializable));
    assert!(!conflicts(Isolation::RepeatableReads));
}

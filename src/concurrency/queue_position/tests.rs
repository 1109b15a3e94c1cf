//! Runs the queue against a store in memory, with many random orders of steps.
//!
//! Programs put their keys (and lose the answers), read the queue, wait for a key, hold the lock, leave
//! and crash; an operator deletes keys. In every order: no program holds the lock together with a program
//! that it excludes, fencing tokens increase, and a waiting program is woken when the key that it waits
//! for is deleted.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The kind of a contender: of a mutex, or a reader or writer of a read-write lock.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Exclusive,
    Read,
    Write,
}

impl Kind {
    fn excludes(self, other: Kind) -> bool {
        self != Kind::Read || other != Kind::Read
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Idle,
    /// The key is in the queue and not first. `None`: the program reads the queue next.
    Waiting(QueuePosition, Option<(Bytes, Option<i64>)>),
    Holds(QueuePosition),
}

#[derive(Debug)]
struct Program {
    kind: Kind,
    phase: Phase,
    attempts: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Enqueues, reads the queue, or leaves, depending on the phase.
    Act,
    /// As `Act`, but the answer to the put is lost, and the put is repeated.
    ActTwice,
    Crash,
    /// An operator deletes the key of the program.
    KeyDeleted,
}

#[derive(Debug, Default)]
struct Store {
    revision: i64,
    keys: BTreeMap<Bytes, i64>,
}

impl Store {
    fn kv(&self, key: &Bytes) -> Option<KeyValue> {
        self.keys.get(key).map(|created| kv(key, *created))
    }

    /// The youngest or oldest key of a range that was created before `below`.
    fn find(&self, range: &KeyRange, below: i64, oldest: bool) -> Option<KeyValue> {
        let inside = |(key, created): &(&Bytes, &i64)| range.contains(key) && **created < below;
        let mut found: Vec<_> = self.keys.iter().filter(inside).collect();
        found.sort_by_key(|(_, created)| **created);
        let one = if oldest { found.first() } else { found.last() };
        one.map(|(key, created)| kv(key, **created))
    }

    fn create(&mut self, key: &Bytes) -> i64 {
        if let Some(created) = self.keys.get(key) {
            return *created;
        }
        self.revision += 1;
        self.keys.insert(key.clone(), self.revision);
        self.revision
    }

    fn delete(&mut self, key: &Bytes) {
        if self.keys.remove(key).is_some() {
            self.revision += 1;
        }
    }
}

fn kv(key: &Bytes, created: i64) -> KeyValue {
    KeyValue {
        key: key.clone(),
        create_revision: created,
        mod_revision: created,
        ..KeyValue::default()
    }
}

fn request(number: usize, program: &Program) -> PositionRequest {
    let unique = program.attempts;
    let (key, before) = match program.kind {
        Kind::Exclusive => (format!("q/{number:x}"), "q/"),
        Kind::Read => (format!("q/read/{number}-{unique}"), "q/write"),
        Kind::Write => (format!("q/write/{number}-{unique}"), "q/"),
    };
    PositionRequest {
        key: key.into(),
        value: Bytes::new(),
        lease: LeaseId::new(1 + i64::try_from(number).unwrap()).unwrap(),
        before: KeyRange::prefix(before),
    }
}

struct Model {
    store: Store,
    programs: Vec<Program>,
    last_exclusive: Revision,
}

impl Model {
    fn new(kinds: &[Kind]) -> Model {
        let program = |kind: &Kind| Program {
            kind: *kind,
            phase: Phase::Idle,
            attempts: 0,
        };
        Model {
            store: Store::default(),
            programs: kinds.iter().map(program).collect(),
            last_exclusive: Revision::NONE,
        }
    }

    fn step(&mut self, number: usize, step: Step) {
        match step {
            Step::Act | Step::ActTwice => self.act(number, matches!(step, Step::ActTwice)),
            Step::Crash => self.leave(number),
            Step::KeyDeleted => {
                let position = match &self.programs[number].phase {
                    Phase::Idle => return,
                    Phase::Waiting(position, _) | Phase::Holds(position) => position.clone(),
                };
                self.store.delete(&position.key);
                // The holder does not notice; etcd refuses its guarded writes from now on.
                if matches!(self.programs[number].phase, Phase::Holds(_)) {
                    self.programs[number].phase = Phase::Idle;
                }
            }
        }
        self.check();
    }

    fn act(&mut self, number: usize, twice: bool) {
        match self.programs[number].phase.clone() {
            Phase::Idle => {
                self.programs[number].attempts += 1;
                let request = request(number, &self.programs[number]);
                let created = self.store.create(&request.key);
                if twice {
                    assert_eq!(
                        self.store.create(&request.key),
                        created,
                        "a repeated put creates no second key"
                    );
                }
                let position = request.position(Revision::new(created));
                let first = self.store.find(&position.before, i64::MAX, true);
                let phase = if position.is_ours(first.as_ref()) {
                    Phase::Holds(position)
                } else {
                    Phase::Waiting(position, None)
                };
                self.enter(number, phase);
            }
            Phase::Waiting(position, Some(key)) => {
                // The watch reports the deletion, even if the key was put again since then.
                if self.store.keys.get(&key.0).copied() != key.1 {
                    self.programs[number].phase = Phase::Waiting(position, None);
                }
            }
            Phase::Waiting(position, None) => {
                let own = self.store.kv(&position.key);
                let older = self
                    .store
                    .find(&position.before, position.revision.get(), false);
                let phase = match position.turn(own.as_ref(), older.as_ref()) {
                    QueueTurn::Ours => Phase::Holds(position),
                    QueueTurn::After(key) => {
                        let created = self.store.keys.get(&key).copied();
                        Phase::Waiting(position, Some((key, created)))
                    }
                    QueueTurn::Gone => Phase::Idle,
                };
                self.enter(number, phase);
            }
            Phase::Holds(_) => self.leave(number),
        }
    }

    fn enter(&mut self, number: usize, phase: Phase) {
        if let Phase::Holds(position) = &phase {
            let kind = self.programs[number].kind;
            if kind != Kind::Read {
                assert!(
                    position.revision > self.last_exclusive,
                    "fencing tokens increase"
                );
                self.last_exclusive = position.revision;
            }
        }
        self.programs[number].phase = phase;
    }

    fn leave(&mut self, number: usize) {
        match std::mem::replace(&mut self.programs[number].phase, Phase::Idle) {
            Phase::Idle => {}
            Phase::Waiting(position, _) | Phase::Holds(position) => {
                self.store.delete(&position.key)
            }
        }
    }

    /// No two holders exclude each other.
    fn check(&self) {
        let holders: Vec<_> = self
            .programs
            .iter()
            .filter(|program| matches!(program.phase, Phase::Holds(_)))
            .collect();
        for (n, one) in holders.iter().enumerate() {
            for other in &holders[n + 1..] {
                assert!(!one.kind.excludes(other.kind), "{holders:#?}");
            }
        }
    }

    /// Without new contenders, every waiting program gets the lock in turn.
    fn drain(&mut self) {
        for _ in 0..self.programs.len() * 4 {
            for number in 0..self.programs.len() {
                if self.programs[number].phase != Phase::Idle {
                    self.act(number, false);
                    self.check();
                }
            }
        }
        assert!(
            self.programs
                .iter()
                .all(|program| program.phase == Phase::Idle)
        );
        assert!(self.store.keys.is_empty(), "all keys are deleted");
    }
}

fn steps(programs: usize) -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        8 => Just(Step::Act),
        1 => Just(Step::ActTwice),
        1 => Just(Step::Crash),
        1 => Just(Step::KeyDeleted),
    ];
    prop::collection::vec((0..programs, step), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_mutex_has_one_holder_at_a_time_and_every_waiter_gets_it(steps in steps(5)) {
        let mut model = Model::new(&[Kind::Exclusive; 5]);
        for (number, step) in steps {
            model.step(number, step);
        }
        model.drain();
    }

    #[test]
    fn readers_share_a_lock_writers_do_not_and_every_waiter_gets_it(steps in steps(6)) {
        use Kind::{Read, Write};

        let mut model = Model::new(&[Read, Read, Read, Write, Write, Read]);
        for (number, step) in steps {
            model.step(number, step);
        }
        model.drain();
    }
}

#[test]
fn a_key_with_another_create_revision_is_not_ours() {
    let position = QueuePosition {
        key: "q/1".into(),
        revision: Revision::new(5),
        before: KeyRange::prefix("q/"),
    };
    let own = kv(&position.key, 9);
    assert_eq!(position.turn(Some(&own), None), QueueTurn::Gone);
    assert_eq!(position.turn(None, None), QueueTurn::Gone);
}

#[test]
fn the_first_key_of_a_queue_has_the_oldest_revision() {
    let kv = |key: &'static str, revision| KeyValue {
        key: key.into(),
        create_revision: revision,
        ..KeyValue::default()
    };
    let position = QueuePosition {
        key: "q/b".into(),
        revision: Revision::new(7),
        before: KeyRange::prefix("q/"),
    };
    let (older, own, newer) = (kv("q/a", 6), kv("q/b", 7), kv("q/c", 8));
    assert!(position.is_ours(None) && position.is_ours(Some(&own)));
    assert!(position.is_ours(Some(&newer)) && !position.is_ours(Some(&older)));
    let turn = |older| position.turn(Some(&own), older);
    assert_eq!(turn(Some(&older)), QueueTurn::After("q/a".into()));
    for not_older in [None, Some(&own), Some(&newer)] {
        assert_eq!(turn(not_older), QueueTurn::Ours);
    }
    assert_eq!(position.turn(None, None), QueueTurn::Gone);
}

#[test]
fn the_transactions_of_a_contender_are_those_that_the_queue_is_built_on() {
    let lease = LeaseId::new(7).unwrap();
    let request = PositionRequest {
        key: "q/b".into(),
        value: "me".into(),
        lease,
        before: KeyRange::prefix("q/"),
    };
    let put = || Put::new("q/b", "me").lease(lease);
    // With the oldest first.
    let first = || {
        Get::prefix("q/")
            .sort(SortTarget::CreateRevision, SortOrder::Ascend)
            .limit(1)
    };
    let own = || Get::key("q/b");
    let enqueue = Txn::when([Compare::create_revision("q/b").eq(Revision::NONE)])
        .then([put()])
        .then([first()])
        .or_else([own(), first()]);
    assert_eq!(request.enqueue(), enqueue);
    let enqueue_if_first = Txn::when([Compare::version(KeyRange::prefix("q/")).eq(0)])
        .then([put()])
        .or_else([first(), own()]);
    assert_eq!(request.enqueue_if_first(), enqueue_if_first);
    // The newest of those that are older than its own.
    let older = Get::prefix("q/")
        .sort(SortTarget::CreateRevision, SortOrder::Descend)
        .limit(1)
        .max_create_revision(Revision::new(6))
        .keys_only();
    let read_turn = Txn::always([own().keys_only(), older]);
    assert_eq!(request.position(Revision::new(7)).read_turn(), read_turn);
}

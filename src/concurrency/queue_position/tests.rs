//! The queue against a store in memory, in many random orders of what can happen.
//!
//! Programs draw tickets (and lose the answers), look, wait for one key, hold, leave and die; others
//! delete keys. Whatever the order: nobody is told that it is their turn while an older key of theirs
//! to wait for is there, nobody holds together with somebody they exclude, numbers grow, and nobody
//! waits for a key that is gone without being woken by its deletion.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What contends: a mutex, or the readers and writers of a lock.
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
    Away,
    /// The request is queued, and it was not our turn; `None`: about to look.
    Waiting(QueuePosition, Option<(Bytes, Option<i64>)>),
    Holds(QueuePosition),
}

#[derive(Debug)]
struct Program {
    kind: Kind,
    phase: Phase,
    draws: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Draws, looks or leaves: whatever it is at.
    Act,
    /// The answer to the draw is lost, and it draws again.
    ActTwice,
    Die,
    /// Somebody deletes its key.
    Robbed,
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
    let unique = program.draws;
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

struct World {
    store: Store,
    programs: Vec<Program>,
    last_exclusive: Revision,
}

impl World {
    fn new(kinds: &[Kind]) -> World {
        let program = |kind: &Kind| Program {
            kind: *kind,
            phase: Phase::Away,
            draws: 0,
        };
        World {
            store: Store::default(),
            programs: kinds.iter().map(program).collect(),
            last_exclusive: Revision::NONE,
        }
    }

    fn step(&mut self, number: usize, step: Step) {
        match step {
            Step::Act | Step::ActTwice => self.act(number, matches!(step, Step::ActTwice)),
            Step::Die => self.leave(number),
            Step::Robbed => {
                let position = match &self.programs[number].phase {
                    Phase::Away => return,
                    Phase::Waiting(position, _) | Phase::Holds(position) => position.clone(),
                };
                self.store.delete(&position.key);
                // A holder cannot know; what it does under its guard is refused from now on.
                if matches!(self.programs[number].phase, Phase::Holds(_)) {
                    self.programs[number].phase = Phase::Away;
                }
            }
        }
        self.check();
    }

    fn act(&mut self, number: usize, twice: bool) {
        match self.programs[number].phase.clone() {
            Phase::Away => {
                self.programs[number].draws += 1;
                let request = request(number, &self.programs[number]);
                let created = self.store.create(&request.key);
                if twice {
                    assert_eq!(self.store.create(&request.key), created, "one request");
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
                // The watch says so when it is gone, also when it was put again since, and not before.
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
                    QueueTurn::Gone => Phase::Away,
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
                assert!(position.revision > self.last_exclusive, "numbers grow");
                self.last_exclusive = position.revision;
            }
        }
        self.programs[number].phase = phase;
    }

    fn leave(&mut self, number: usize) {
        match std::mem::replace(&mut self.programs[number].phase, Phase::Away) {
            Phase::Away => {}
            Phase::Waiting(position, _) | Phase::Holds(position) => {
                self.store.delete(&position.key)
            }
        }
    }

    /// Nobody holds together with somebody it excludes.
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

    /// When nobody comes any more, everybody who waits has their turn.
    fn drain(&mut self) {
        for _ in 0..self.programs.len() * 4 {
            for number in 0..self.programs.len() {
                if self.programs[number].phase != Phase::Away {
                    self.act(number, false);
                    self.check();
                }
            }
        }
        assert!(
            self.programs
                .iter()
                .all(|program| program.phase == Phase::Away)
        );
        assert!(self.store.keys.is_empty(), "nothing is left behind");
    }
}

fn steps(programs: usize) -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        8 => Just(Step::Act),
        1 => Just(Step::ActTwice),
        1 => Just(Step::Die),
        1 => Just(Step::Robbed),
    ];
    prop::collection::vec((0..programs, step), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn one_holds_a_mutex_at_a_time_and_everybody_has_a_turn(steps in steps(5)) {
        let mut world = World::new(&[Kind::Exclusive; 5]);
        for (number, step) in steps {
            world.step(number, step);
        }
        world.drain();
    }

    #[test]
    fn readers_share_and_writers_do_not_and_everybody_has_a_turn(steps in steps(6)) {
        use Kind::{Read, Write};

        let mut world = World::new(&[Read, Read, Read, Write, Write, Read]);
        for (number, step) in steps {
            world.step(number, step);
        }
        world.drain();
    }
}

#[test]
fn a_key_that_was_put_by_somebody_else_since_is_not_ours() {
    let position = QueuePosition {
        key: "q/1".into(),
        revision: Revision::new(5),
        before: KeyRange::prefix("q/"),
    };
    let own = kv(&position.key, 9);
    assert_eq!(position.turn(Some(&own), None), QueueTurn::Gone);
    assert_eq!(position.turn(None, None), QueueTurn::Gone);
}

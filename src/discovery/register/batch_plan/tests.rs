//! A model of a server that refuses steps at random, and of entries whose permitted steps must all be
//! executed.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::*;

mod rules;

/// The step that one entry must send.
#[derive(Debug)]
struct Entry {
    kind: StepKind,
    steps: usize,
    bytes: usize,
    /// The server refuses it at the moment.
    is_forbidden: bool,
    is_due: bool,
    is_in_flight: bool,
    /// The plan isolated it, and it has not succeeded since then.
    is_isolated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Fine,
    Away,
    RefusesEverything,
}

struct World {
    rng: Rng,
    now: Instant,
    plan: BatchPlan,
    entries: BTreeMap<u64, Entry>,
    in_flight: Vec<Batch>,
    mood: Mood,
    // What the server accepts in one transaction.
    steps: usize,
    bytes: usize,
    /// The most keys of an entry.
    keys: usize,
    transactions: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limits = ClientLimits {
            txn_ops: 128,
            send_bytes: 2 << 20,
        };
        World {
            now: Instant::now(),
            plan: BatchPlan::new(limits, 1),
            entries: BTreeMap::new(),
            in_flight: Vec::new(),
            mood: Mood::Fine,
            steps: rng.usize(1..=120),
            bytes: rng.usize(10_000..=1_000_000),
            keys: 3,
            transactions: 0,
            rng,
        }
    }

    fn add(&mut self, kind: StepKind, bytes: usize, is_forbidden: bool) {
        let number = self.entries.len() as u64;
        let entry = Entry {
            kind,
            steps: 1 + number as usize % self.keys,
            bytes,
            is_forbidden,
            is_due: true,
            is_in_flight: false,
            is_isolated: false,
        };
        self.entries.insert(number, entry);
        self.plan.wants(number, kind);
    }

    fn want(&mut self, number: u64) {
        let entry = self.entries.get_mut(&number).unwrap();
        if !entry.is_in_flight {
            entry.is_due = true;
            self.plan.wants(number, entry.kind);
        }
    }

    fn send(&mut self) {
        loop {
            let entries = &self.entries;
            let step_of = |number: u64| {
                let entry = entries.get(&number)?;
                (entry.is_due && !entry.is_in_flight).then_some(StepSize {
                    kind: entry.kind,
                    steps: entry.steps,
                    bytes: entry.bytes,
                })
            };
            let Some(batch) = self.plan.next(self.now, step_of) else {
                break;
            };
            self.transactions += 1;
            for number in &batch.numbers {
                let entry = self.entries.get_mut(number).unwrap();
                assert!(entry.is_due && !entry.is_in_flight, "it is sent twice");
                assert_eq!(entry.kind, batch.kind, "two queues in one transaction");
                assert!(
                    !entry.is_isolated || batch.numbers.len() == 1,
                    "an isolated entry shares a batch"
                );
                entry.is_in_flight = true;
            }
            self.in_flight.push(batch);
        }
        assert!(self.in_flight.len() <= 3 * KIND_SLOTS + SPLIT_SLOTS + ISOLATED_SLOTS);
    }

    /// The server ends one of the transactions in flight.
    fn end_one(&mut self) {
        if self.in_flight.is_empty() {
            return;
        }
        let batch = self
            .in_flight
            .swap_remove(self.rng.usize(0..self.in_flight.len()));
        let of_batch = || batch.numbers.iter().map(|number| &self.entries[number]);
        let result = match self.mood {
            Mood::Away => BatchResult::Failed(Refusal::NoAnswer),
            Mood::RefusesEverything => BatchResult::Failed(Refusal::Everything),
            // A single entry is always small enough.
            Mood::Fine
                if batch.numbers.len() > 1
                    && of_batch().map(|e| e.steps).sum::<usize>() > self.steps =>
            {
                BatchResult::Failed(Refusal::TooMany)
            }
            Mood::Fine if of_batch().map(|e| e.bytes).sum::<usize>() > self.bytes => {
                BatchResult::Failed(Refusal::TooLarge)
            }
            Mood::Fine if of_batch().any(|e| e.is_forbidden) => BatchResult::Failed(Refusal::Step),
            Mood::Fine => BatchResult::Answered,
        };
        let random = self.rng.f64();
        let consequence = self.plan.ended(batch.id, result, self.now, random);
        assert_eq!(
            consequence == Consequence::Done,
            result == BatchResult::Answered
        );
        for number in &batch.numbers {
            let entry = self.entries.get_mut(number).unwrap();
            entry.is_in_flight = false;
            match consequence {
                Consequence::Done => {
                    entry.is_due = false;
                    entry.is_isolated = false;
                }
                Consequence::Isolated => {
                    let is_too_large = entry.bytes > self.bytes;
                    assert!(
                        entry.is_forbidden || is_too_large,
                        "an acceptable step is isolated"
                    );
                    entry.is_isolated = true;
                }
                Consequence::RetryLater | Consequence::Split => {}
            }
            if entry.is_due {
                self.plan.wants(*number, entry.kind);
            }
        }
    }

    /// Delivers everything and lets time pass until every permitted step is done.
    fn settle(&mut self, patience: Duration) {
        let end = self.now + patience;
        loop {
            self.send();
            while !self.in_flight.is_empty() {
                self.end_one();
                self.send();
            }
            let is_done = |e: &Entry| !e.is_due || e.is_forbidden || e.bytes > self.bytes;
            if self.entries.values().all(is_done) {
                return;
            }
            let due = self.plan.due(self.now).expect("what is due is waited for");
            assert!(due > self.now, "it spins");
            self.now = due;
            assert!(self.now < end, "not done in {patience:?}");
        }
    }
}

#[test]
fn every_permitted_step_is_done_in_few_transactions_and_isolated_entries_stay_alone() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        (world.steps, world.bytes, world.keys) = (1000, 10 << 20, 1);
        let (good, bad) = (world.rng.usize(1..400), world.rng.usize(0..6));
        let mut kinds = vec![false; good];
        kinds.resize(good + bad, true);
        world.rng.shuffle(&mut kinds);
        for is_forbidden in kinds {
            world.add(StepKind::Write, 200, is_forbidden);
        }
        world.settle(Duration::from_millis(1));
        // Each refused step costs two transactions per split; 100 steps are split 7 times.
        let bound = good.div_ceil(100) + 5 + bad * 2 * 7;
        let transactions = world.transactions;
        assert!(transactions <= bound, "{transactions} of {bound}, {seed}");
        // From then on isolated entries cost the others nothing.
        for round in 0..3 {
            let before = world.transactions;
            let numbers: Vec<_> = world.entries.keys().copied().collect();
            for number in numbers {
                if !world.entries[&number].is_forbidden {
                    world.want(number);
                }
            }
            world.settle(Duration::from_millis(1));
            let used = world.transactions - before;
            assert!(used <= good.div_ceil(100) + bad, "{used} in round {round}");
        }
    }
}

#[test]
fn every_permitted_step_is_done_after_any_sequence_of_server_failures() {
    for seed in 0..1500 {
        let mut world = World::new(seed);
        for _ in 0..world.rng.usize(1..300) {
            let kind = match world.rng.u32(0..10) {
                0..7 => StepKind::Write,
                7..9 => StepKind::Delete,
                _ => StepKind::Read,
            };
            let bytes = match world.rng.u32(0..50) {
                0 => world.rng.usize(1..1_500_000),
                _ => world.rng.usize(1..2_000),
            };
            let is_forbidden = world.rng.u32(0..20) == 0;
            world.add(kind, bytes, is_forbidden);
        }
        for _ in 0..world.rng.usize(0..300) {
            let number = world.rng.u64(0..world.entries.len() as u64);
            match world.rng.u32(0..20) {
                0..6 => world.send(),
                6..12 => world.end_one(),
                12..14 => world.want(number),
                14 => world.mood = Mood::Away,
                15 => world.mood = Mood::RefusesEverything,
                16 => {
                    let entry = world.entries.get_mut(&number).unwrap();
                    entry.is_forbidden = !entry.is_forbidden;
                }
                17 => {
                    let (now, entry) = (world.now, world.entries.get_mut(&number).unwrap());
                    if !entry.is_in_flight {
                        entry.kind = StepKind::Delete;
                        world.plan.changed(number, now);
                        world.want(number);
                    }
                }
                18 => world.now += Duration::from_millis(world.rng.u64(0..3000)),
                _ => world.mood = Mood::Fine,
            }
        }
        world.mood = Mood::Fine;
        world.settle(Duration::from_secs(30));
    }
}

#[test]
fn a_user_without_permissions_does_not_send_endlessly() {
    let mut world = World::new(1);
    (world.steps, world.bytes, world.keys) = (1000, 10 << 20, 1);
    for _ in 0..10_000 {
        world.add(StepKind::Write, 200, true);
    }
    let end = world.now + Duration::from_secs(60);
    while world.now < end {
        world.send();
        while !world.in_flight.is_empty() {
            world.end_one();
            world.send();
        }
        world.now = world.plan.due(world.now).unwrap();
    }
    // Parts of refused batches wait, and isolated entries share 200 attempts a second.
    let refused = world.transactions;
    assert!(
        refused < 70 * 200,
        "{refused} refused transactions in a minute"
    );
    // Everything is permitted again, and is done as fast as it is sent.
    world
        .entries
        .values_mut()
        .for_each(|e| e.is_forbidden = false);
    world.settle(Duration::from_secs(4));
}

#[test]
fn an_unanswered_delete_does_not_delay_writes() {
    let mut world = World::new(1);
    world.add(StepKind::Delete, 50, false);
    world.add(StepKind::Delete, 50, false);
    world.send();
    let deletes = world.in_flight.pop().unwrap();
    world.add(StepKind::Write, 50, false);
    world.send();
    assert_eq!(world.in_flight.pop().unwrap().numbers, [2]);
    let pausing = BatchResult::Failed(Refusal::NoAnswer);
    world.plan.ended(deletes.id, pausing, world.now, 1.0);
    world.add(StepKind::Write, 50, false);
    world.send();
    assert_eq!(world.in_flight.pop().unwrap().numbers, [3]);
}

#[test]
fn an_isolated_entry_without_answers_does_not_delay_other_entries() {
    let mut world = World::new(1);
    (world.steps, world.bytes, world.keys) = (1000, 10 << 20, 1);
    let many = ISOLATED_SLOTS + 1;
    for _ in 0..many {
        world.add(StepKind::Write, 50, true);
    }
    world.settle(Duration::from_millis(1));
    world.now += Duration::from_secs(2);
    world.send();
    assert_eq!(world.in_flight.len(), ISOLATED_SLOTS, "the last one waits");
    world.in_flight.clear();
    assert_eq!(world.plan.due(world.now), None, "an answer wakes it");
    world.add(StepKind::Write, 50, false);
    world.send();
    assert_eq!(world.in_flight[0].numbers, [many as u64]);
}

#[test]
fn a_changed_entry_is_sent_at_once_and_a_removed_one_is_dropped() {
    let mut world = World::new(1);
    (world.steps, world.bytes, world.keys) = (1000, 10 << 20, 1);
    world.add(StepKind::Write, 50, true);
    world.send();
    let batch = world.in_flight.pop().unwrap();
    let refused = BatchResult::Failed(Refusal::Step);
    let consequence = world.plan.ended(batch.id, refused, world.now, 1.0);
    assert_eq!(consequence, Consequence::Isolated);
    world.entries.get_mut(&0).unwrap().is_in_flight = false;
    world.want(0);
    world.send();
    assert!(world.in_flight.is_empty());
    world.plan.changed(0, world.now);
    world.send();
    assert_eq!(world.in_flight.len(), 1);
    world.plan.forget(0);
    let batch = world.in_flight.pop().unwrap();
    world
        .plan
        .ended(batch.id, BatchResult::Answered, world.now, 1.0);
    assert!(world.plan.separate.is_empty() && world.plan.isolated_due.is_empty());
}

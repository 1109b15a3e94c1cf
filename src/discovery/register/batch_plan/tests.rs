//! A server that refuses what it likes, and entries that must be carried out all the same.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::*;

mod rules;

/// What one entry has to send.
#[derive(Debug)]
struct Entry {
    sort: Sort,
    bytes: usize,
    /// Nobody may send it, at the moment.
    is_forbidden: bool,
    is_due: bool,
    is_under_way: bool,
    /// The plan said that it is a culprit, and it did not succeed since then.
    is_culprit: bool,
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
    under_way: Vec<Batch>,
    mood: Mood,
    /// What the server takes in one transaction.
    steps: usize,
    bytes: usize,
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
            plan: BatchPlan::new(limits),
            entries: BTreeMap::new(),
            under_way: Vec::new(),
            mood: Mood::Fine,
            steps: rng.usize(1..=120),
            bytes: rng.usize(10_000..=1_000_000),
            transactions: 0,
            rng,
        }
    }

    fn add(&mut self, sort: Sort, bytes: usize, is_forbidden: bool) {
        let number = self.entries.len() as u64;
        let entry = Entry {
            sort,
            bytes,
            is_forbidden,
            is_due: true,
            is_under_way: false,
            is_culprit: false,
        };
        self.entries.insert(number, entry);
        self.plan.wants(number, sort);
    }

    fn want(&mut self, number: u64) {
        let entry = self.entries.get_mut(&number).unwrap();
        if !entry.is_under_way {
            entry.is_due = true;
            self.plan.wants(number, entry.sort);
        }
    }

    fn send(&mut self) {
        loop {
            let entries = &self.entries;
            let weigh = |number: u64| {
                let entry = entries.get(&number)?;
                (entry.is_due && !entry.is_under_way).then_some(StepSize {
                    sort: entry.sort,
                    bytes: entry.bytes,
                })
            };
            let Some(batch) = self.plan.next(self.now, weigh) else {
                break;
            };
            self.transactions += 1;
            for number in &batch.numbers {
                let entry = self.entries.get_mut(number).unwrap();
                assert!(entry.is_due && !entry.is_under_way, "it is sent twice");
                assert_eq!(entry.sort, batch.sort, "two sorts in one transaction");
                assert!(
                    !entry.is_culprit || batch.numbers.len() == 1,
                    "a culprit travels with others"
                );
                entry.is_under_way = true;
            }
            self.under_way.push(batch);
        }
        assert!(self.under_way.len() <= 3 * SORT_SLOTS + SUSPECT_SLOTS + CULPRIT_SLOTS);
    }

    /// The server ends one of the transactions on their way.
    fn end_one(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let batch = self
            .under_way
            .swap_remove(self.rng.usize(0..self.under_way.len()));
        let of_batch = || batch.numbers.iter().map(|number| &self.entries[number]);
        let ending = match self.mood {
            Mood::Away => Ending::Failed(Refusal::NoAnswer),
            Mood::RefusesEverything => Ending::Failed(Refusal::Everything),
            Mood::Fine if batch.numbers.len() > self.steps => Ending::Failed(Refusal::TooMany),
            Mood::Fine if of_batch().map(|e| e.bytes).sum::<usize>() > self.bytes => {
                Ending::Failed(Refusal::TooLarge)
            }
            Mood::Fine if of_batch().any(|e| e.is_forbidden) => Ending::Failed(Refusal::Step),
            Mood::Fine => Ending::Answered,
        };
        let random = self.rng.f64();
        let consequence = self.plan.ended(batch.id, ending, self.now, random);
        assert_eq!(consequence == Consequence::Done, ending == Ending::Answered);
        for number in &batch.numbers {
            let entry = self.entries.get_mut(number).unwrap();
            entry.is_under_way = false;
            match consequence {
                Consequence::Done => {
                    entry.is_due = false;
                    entry.is_culprit = false;
                }
                Consequence::Culprit => {
                    let is_too_large = entry.bytes > self.bytes;
                    assert!(entry.is_forbidden || is_too_large, "an innocent is accused");
                    entry.is_culprit = true;
                }
                Consequence::Later | Consequence::Halved => {}
            }
            if entry.is_due {
                self.plan.wants(*number, entry.sort);
            }
        }
    }

    /// Lets everything arrive and time pass until what is permitted is done.
    fn settle(&mut self, patience: Duration) {
        let end = self.now + patience;
        loop {
            self.send();
            while !self.under_way.is_empty() {
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
fn every_permitted_step_is_done_in_a_few_transactions_and_culprits_stay_alone() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        (world.steps, world.bytes) = (1000, 10 << 20);
        let (good, bad) = (world.rng.usize(1..400), world.rng.usize(0..6));
        let mut kinds = vec![false; good];
        kinds.resize(good + bad, true);
        world.rng.shuffle(&mut kinds);
        for is_forbidden in kinds {
            world.add(Sort::Write, 200, is_forbidden);
        }
        world.settle(Duration::from_millis(1));
        // Each culprit costs two transactions a halving; 100 are halved 7 times.
        let bound = good.div_ceil(100) + 5 + bad * 2 * 7;
        let transactions = world.transactions;
        assert!(transactions <= bound, "{transactions} of {bound}, {seed}");
        // From then on the culprits cost the others nothing.
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
fn whatever_the_server_does_what_is_permitted_is_done_when_it_is_back() {
    for seed in 0..1500 {
        let mut world = World::new(seed);
        for _ in 0..world.rng.usize(1..300) {
            let sort = match world.rng.u32(0..10) {
                0..7 => Sort::Write,
                7..9 => Sort::Delete,
                _ => Sort::Look,
            };
            let bytes = match world.rng.u32(0..50) {
                0 => world.rng.usize(1..1_500_000),
                _ => world.rng.usize(1..2_000),
            };
            let is_forbidden = world.rng.u32(0..20) == 0;
            world.add(sort, bytes, is_forbidden);
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
                    if !entry.is_under_way {
                        entry.sort = Sort::Delete;
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
fn a_user_who_may_do_nothing_does_not_send_without_end() {
    let mut world = World::new(1);
    (world.steps, world.bytes) = (1000, 10 << 20);
    for _ in 0..10_000 {
        world.add(Sort::Write, 200, true);
    }
    let end = world.now + Duration::from_secs(60);
    while world.now < end {
        world.send();
        while !world.under_way.is_empty() {
            world.end_one();
            world.send();
        }
        world.now = world.plan.due(world.now).unwrap();
    }
    // What is being split waits; those that are alone share 200 tries a second.
    let refused = world.transactions;
    assert!(
        refused < 70 * 200,
        "{refused} refused transactions in a minute"
    );
    // All is permitted again, and is done as fast as it is sent.
    world
        .entries
        .values_mut()
        .for_each(|e| e.is_forbidden = false);
    world.settle(Duration::from_secs(4));
}

#[test]
fn a_delete_that_is_not_answered_holds_up_no_write() {
    let mut world = World::new(1);
    world.add(Sort::Delete, 50, false);
    world.add(Sort::Delete, 50, false);
    world.send();
    let deletes = world.under_way.pop().unwrap();
    world.add(Sort::Write, 50, false);
    world.send();
    assert_eq!(world.under_way.pop().unwrap().numbers, [2]);
    let pausing = Ending::Failed(Refusal::NoAnswer);
    world.plan.ended(deletes.id, pausing, world.now, 1.0);
    world.add(Sort::Write, 50, false);
    world.send();
    assert_eq!(world.under_way.pop().unwrap().numbers, [3]);
}

#[test]
fn a_culprit_whose_answers_take_for_ever_holds_up_nobody_else() {
    let mut world = World::new(1);
    (world.steps, world.bytes) = (1000, 10 << 20);
    let many = CULPRIT_SLOTS + 1;
    for _ in 0..many {
        world.add(Sort::Write, 50, true);
    }
    world.settle(Duration::from_millis(1));
    world.now += Duration::from_secs(2);
    world.send();
    assert_eq!(world.under_way.len(), CULPRIT_SLOTS, "the last one waits");
    world.under_way.clear();
    assert_eq!(world.plan.due(world.now), None, "an answer wakes it");
    world.add(Sort::Write, 50, false);
    world.send();
    assert_eq!(world.under_way[0].numbers, [many as u64]);
}

#[test]
fn one_that_changed_is_tried_at_once_and_one_that_is_gone_is_forgotten() {
    let mut world = World::new(1);
    (world.steps, world.bytes) = (1000, 10 << 20);
    world.add(Sort::Write, 50, true);
    world.send();
    let batch = world.under_way.pop().unwrap();
    let refused = Ending::Failed(Refusal::Step);
    let consequence = world.plan.ended(batch.id, refused, world.now, 1.0);
    assert_eq!(consequence, Consequence::Culprit);
    world.entries.get_mut(&0).unwrap().is_under_way = false;
    world.want(0);
    world.send();
    assert!(world.under_way.is_empty());
    world.plan.changed(0, world.now);
    world.send();
    assert_eq!(world.under_way.len(), 1);
    world.plan.forget(0);
    let batch = world.under_way.pop().unwrap();
    world.plan.ended(batch.id, Ending::Answered, world.now, 1.0);
    assert!(world.plan.apart.is_empty() && world.plan.culprits_due.is_empty());
}

//! A model test of the keys of one registration: a store, lost answers, operators and leases act at random.
//!
//! At the end, the store has exactly the wanted values. Keys that are put while none is there are put
//! at one revision.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;

use super::*;

const KEYS: [&str; 3] = ["a", "b", "c"];

/// The most rounds without faults until nothing changes any more.
const ROUNDS: usize = 20;

struct World {
    rng: Rng,
    store: BTreeMap<&'static str, KeyValue>,
    revision: i64,
    granted: i64,
    leases: RegistrarLeases,
    keys: OwnedKeys,
    wanted: [Option<Bytes>; 3],
    values: u64,
    flight: Option<Flight>,
    /// The events of each key that were not delivered.
    events: [VecDeque<(i64, Option<KeyValue>)>; 3],
}

struct Flight {
    /// The revision up to which the process knew everything when it sent the steps.
    known: Option<i64>,
    steps: Vec<(usize, KeyStep, Bytes)>,
    answer: Option<Answer>,
}

/// The revision, and what was found where the condition did not hold.
type Answer = (i64, Vec<Result<(), Option<KeyValue>>>);

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let wanted = [(); 3].map(|()| rng.bool().then(|| Bytes::from("first")));
        let named = KEYS.map(Bytes::from).into_iter().zip(wanted.clone());
        World {
            keys: OwnedKeys::new(named, OnConflict::Replace),
            rng,
            store: BTreeMap::new(),
            revision: 1,
            granted: 0,
            leases: RegistrarLeases::default(),
            wanted,
            values: 0,
            flight: None,
            events: Default::default(),
        }
    }

    fn set(&mut self, n: usize, to: Option<(Bytes, i64)>) {
        let key = KEYS[n];
        let kv = to.map(|(value, lease)| KeyValue {
            key: key.into(),
            value,
            lease,
            mod_revision: self.revision,
            ..KeyValue::default()
        });
        match &kv {
            Some(kv) => drop(self.store.insert(key, kv.clone())),
            None => drop(self.store.remove(key)),
        }
        self.events[n].push_back((self.revision, kv));
    }

    fn step(&mut self) {
        let n = self.rng.usize(0..3);
        match self.rng.u32(0..100) {
            0..10 => self.update(),
            10..25 => self.grant(),
            25..45 => self.send(),
            45..60 => self.execute(),
            60..72 => self.answer(true),
            72..75 => self.answer(false),
            75..78 => self.refuse(),
            78..90 => drop(self.deliver(n)),
            90..93 => self.operator(n, None),
            93..96 => self.operator(n, Some("junk".into())),
            _ => self.expire(),
        }
    }

    fn update(&mut self) {
        self.values += 1;
        let value: Bytes = format!("value {}", self.values).into();
        self.wanted = [(); 3].map(|()| (self.rng.u32(0..3) > 0).then(|| value.clone()));
        self.keys.update(self.wanted.clone());
    }

    fn grant(&mut self) {
        if self.leases.current.is_none() {
            self.granted += 1;
            self.leases.current = LeaseId::new(self.granted);
        }
    }

    /// The lease expires with its keys, and the process is told at once.
    fn expire(&mut self) {
        let Some(lost) = self.leases.lost() else {
            return;
        };
        self.revision += 1;
        for (n, key) in KEYS.into_iter().enumerate() {
            if self
                .store
                .get(key)
                .is_some_and(|kv| kv.lease() == Some(lost))
            {
                self.set(n, None);
            }
        }
        self.keys.lease_lost(lost);
    }

    fn operator(&mut self, n: usize, value: Option<Bytes>) {
        if let Some(kv) = self.store.get(KEYS[n]) {
            let lease = kv.lease;
            self.revision += 1;
            self.set(n, value.map(|value| (value, lease)));
        }
    }

    fn send(&mut self) {
        if self.flight.is_none() {
            let steps: Vec<DueStep> = self.keys.due(&self.leases).collect();
            let value = |n| self.keys.get(n).unwrap().next_value().clone();
            let sent = steps.iter().map(|(n, step)| (*n, *step, value(*n)));
            let sent: Vec<_> = sent.collect();
            self.keys.begin(&steps);
            let is_told = self.events.iter().all(VecDeque::is_empty);
            self.flight = (!sent.is_empty()).then_some(Flight {
                known: is_told.then_some(self.revision),
                steps: sent,
                answer: None,
            });
        }
    }

    fn holds(&self, n: usize, step: KeyStep) -> bool {
        let kv = self.store.get(KEYS[n]);
        match step {
            KeyStep::Write(WriteCondition::Absent, _) => kv.is_none(),
            KeyStep::Write(WriteCondition::Unchanged(at, on), _) => {
                kv.is_some_and(|kv| (kv.mod_revision(), kv.lease()) == (at, on))
            }
            KeyStep::Write(WriteCondition::OnLease(on), _) | KeyStep::Delete(on) => {
                kv.is_some_and(|kv| kv.lease() == Some(on))
            }
            KeyStep::Read => false,
        }
    }

    fn execute(&mut self) {
        let Some(Flight {
            steps,
            known,
            answer: None,
        }) = &self.flight
        else {
            return;
        };
        let steps = steps.clone();
        let is_write = |step: KeyStep| matches!(step, KeyStep::Write(..));
        let on_dead = |step| match step {
            KeyStep::Write(_, lease) => self.leases.current != Some(lease),
            _ => false,
        };
        if steps.iter().any(|(_, step, _)| on_dead(*step)) {
            // The lease is not found, and nothing is executed.
            self.flight = None;
            return self.keys.failed();
        }
        let writes = steps.iter().filter(|(_, step, _)| is_write(*step));
        let all_hold = writes.clone().all(|(n, step, _)| self.holds(*n, *step));
        let was_empty = self.store.is_empty() && *known == Some(self.revision);
        self.revision += 1;
        let mut answers = Vec::new();
        for (n, step, value) in &steps {
            let holds = match is_write(*step) {
                true => all_hold,
                false => self.holds(*n, *step),
            };
            answers.push(match holds {
                true => Ok(()),
                false => Err(self.store.get(KEYS[*n]).cloned()),
            });
            match (holds, *step) {
                (true, KeyStep::Write(_, lease)) => {
                    self.set(*n, Some((value.clone(), lease.get())))
                }
                (true, KeyStep::Delete(_)) => self.set(*n, None),
                _ => {}
            }
        }
        if was_empty && !self.store.is_empty() {
            let values = self.wanted.iter().flatten().count();
            let written = steps.iter().filter(|(_, step, _)| is_write(*step)).count();
            let is_newest =
                |(n, _, value): &(usize, KeyStep, Bytes)| self.wanted[*n].as_ref() == Some(value);
            assert!(
                written == values || !steps.iter().all(is_newest),
                "they appeared apart: {:?}",
                self.keys
            );
        }
        if let Some(flight) = &mut self.flight {
            flight.answer = Some((self.revision, answers));
        }
    }

    fn answer(&mut self, arrives: bool) {
        if self
            .flight
            .as_ref()
            .is_none_or(|flight| flight.answer.is_none())
        {
            return;
        }
        let flight = self.flight.take().unwrap();
        let (at, answers) = flight.answer.unwrap();
        if !arrives {
            return self.keys.failed();
        }
        let valid = |kv: &KeyValue| kv.value() != "junk";
        for ((n, ..), answer) in flight.steps.iter().zip(answers) {
            let at = Revision::new(at);
            let _ = match answer {
                Ok(()) => self.keys.done(*n, at, &self.leases, valid),
                Err(kv) => self.keys.found(*n, at, kv.as_ref(), &self.leases, valid),
            };
        }
    }

    fn refuse(&mut self) {
        if self
            .flight
            .as_ref()
            .is_some_and(|flight| flight.answer.is_none())
        {
            self.flight = None;
            self.keys.refused(self.rng.bool());
        }
    }

    fn deliver(&mut self, n: usize) -> bool {
        let Some((at, kv)) = self.events[n].pop_front() else {
            return false;
        };
        let valid = |kv: &KeyValue| kv.value() != "junk";
        let _ = self
            .keys
            .event(n, Revision::new(at), kv, &self.leases, valid);
        true
    }

    fn calm(&mut self) {
        for round in 0.. {
            assert!(round < ROUNDS, "it does not come to rest: {:#?}", self.keys);
            self.grant();
            self.send();
            let mut busy = self.flight.is_some();
            self.execute();
            self.answer(true);
            for n in 0..3 {
                while self.deliver(n) {
                    busy = true;
                }
            }
            if !busy {
                break;
            }
        }
    }

    fn check(&self) {
        for (key, wanted) in KEYS.into_iter().zip(&self.wanted) {
            let kv = self.store.get(key);
            assert_eq!(
                kv.map(KeyValue::value),
                wanted.as_ref(),
                "{key} of {:#?}",
                self.keys
            );
            let lease = kv.and_then(KeyValue::lease);
            assert!(kv.is_none() || lease == self.leases.current);
        }
        assert!(self.keys.wanted_is_there());
        let is_out = self.wanted.iter().all(Option::is_none);
        assert_eq!(self.keys.is_withdrawn(), is_out);
        assert_eq!(self.keys.stored_at().is_none(), is_out);
    }
}

#[test]
fn the_keys_have_their_wanted_values_after_any_sequence_of_faults() {
    let seeds = std::env::var("OWNED_KEYS_SEED").map_or(0..10_000, |seed| {
        let seed = seed.parse().unwrap();
        seed..seed + 1
    });
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            let steps = world.rng.usize(1..150);
            (0..steps).for_each(|_| world.step());
            world.calm();
            world.check();
            world.keys.leave();
            world.wanted = [None, None, None];
            world.calm();
            assert!(world.store.is_empty() && world.keys.is_released());
        });
        if let Err(panic) = result {
            println!("OWNED_KEYS_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

//! A model test of owned keys: a store, a network, operators and several processes act at random.
//!
//! One seed is one history. It begins with faults and ends without faults. At the end every wanted
//! instance is in the store, and no process has taken a key of another.

mod process;
mod store;

use bytes::Bytes;
use fastrand::Rng;

use self::process::{Flight, Process};
use self::store::Store;
use crate::discovery::register::owned_key::*;

const KEYS: [&str; 3] = ["a", "b", "c"];

/// The most rounds without faults until nothing changes any more.
const ROUNDS: usize = 60;

struct World {
    rng: Rng,
    store: Store,
    processes: Vec<Process>,
    /// The number of keys. With fewer keys, each has more events.
    keys: usize,
    /// Numbers values, so that each is written for one owned key once.
    values: u64,
}

/// Whether a value is an instance.
fn valid(kv: &KeyValue) -> bool {
    kv.value().starts_with(b"process")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let processes = (0..rng.usize(2..=3)).map(Process::new).collect();
        let keys = rng.usize(1..=KEYS.len());
        World {
            rng,
            keys,
            store: Store::new(),
            processes,
            values: 0,
        }
    }

    fn value(&mut self, process: usize) -> Bytes {
        self.values += 1;
        format!("process{process} {}", self.values).into()
    }

    fn step(&mut self) {
        let n = self.rng.usize(0..self.processes.len());
        let key = KEYS[self.rng.usize(0..self.keys)];
        match self.rng.u32(0..100) {
            0..6 => {
                self.register(n, key);
                self.promptly(n);
            }
            6..9 => self.update(n),
            9 => self.withdraw(n),
            10..14 => {
                self.leave(n);
                self.promptly(n);
            }
            14..25 => self.grant(n),
            25..42 => self.processes[n].send(),
            42..56 => self.execute(n),
            58..68 => self.answer(n, true),
            68..70 => self.answer(n, false),
            // The request is lost before the server executes it.
            70 => self.processes[n].fail(),
            71 => self.processes[n].refused(),
            74..84 => self.deliver(n),
            84..86 => self.unwatch(n),
            86..88 => self.store.expire(self.processes[n].leases.current),
            88..91 => self.notice_loss(n),
            // No renewal succeeds, and the server keeps the lease for a while longer.
            91 => self.processes[n].lose_lease(),
            56 | 72 => self.processes[n].retire_lease(),
            57 | 73 => self.processes[n].lose_retired(&self.store),
            92 => self.expire_old(),
            93..95 => self.store.delete(key),
            95 => self.store.put(key, "junk".into(), None),
            96 => self.store.overwrite(key, "junk"),
            97 => self.store.compact(&mut self.rng),
            98 if self.rng.u32(0..6) == 0 => self.wipe(),
            99 if self.rng.u32(0..4) == 0 => self.crash(n),
            _ => {}
        }
        self.check_always();
    }

    fn register(&mut self, n: usize, key: &'static str) {
        let value = self.value(n);
        let policy = match self.rng.u32(0..4) {
            0 => OnConflict::Fail,
            1 => OnConflict::WaitForExpiry,
            _ => OnConflict::Replace,
        };
        self.processes[n].register(key.into(), value, policy);
    }

    fn update(&mut self, n: usize) {
        let value = self.value(n);
        if let Some(number) = self.processes[n].any(&mut self.rng) {
            self.processes[n].update(number, value);
        }
    }

    fn withdraw(&mut self, n: usize) {
        if let Some(number) = self.processes[n].any(&mut self.rng) {
            self.processes[n].withdraw(number);
        }
    }

    fn leave(&mut self, n: usize) {
        if let Some(number) = self.processes[n].any(&mut self.rng) {
            self.processes[n].leave(number);
        }
    }

    /// Lets a process act at once, while requests of others are in flight.
    fn promptly(&mut self, n: usize) {
        if self.rng.bool() {
            self.processes[n].send();
            self.execute(n);
        }
    }

    fn grant(&mut self, n: usize) {
        if self.processes[n].leases.current.is_none() {
            let lease = self.store.grant();
            // A lost answer leaves a lease that no process keeps alive.
            if self.rng.u32(0..5) > 0 {
                self.processes[n].leases.current = Some(lease);
            }
        }
    }

    /// The server executes what a process sent, whether or not the answer arrives.
    fn execute(&mut self, n: usize) {
        let Some(Flight { steps, answer, .. }) = &mut self.processes[n].flight else {
            return;
        };
        if answer.is_none() {
            let steps: Vec<_> = steps
                .iter()
                .map(|sent| (sent.key.clone(), sent.value.clone(), sent.step))
                .collect();
            for (key, _, step) in &steps {
                self.check_fence(n, key, *step);
            }
            let done = self.store.transact(&steps);
            if let Some(flight) = &mut self.processes[n].flight {
                flight.answer = Some(done);
            }
        }
    }

    fn answer(&mut self, n: usize, arrives: bool) {
        if self.processes[n].is_executed() {
            match arrives {
                true => self.processes[n].take_answer(),
                false => self.processes[n].fail(),
            }
        }
    }

    /// Delivers some of the events of a random watch.
    fn deliver(&mut self, n: usize) {
        let (process, rng) = (&mut self.processes[n], &mut self.rng);
        process.watch();
        if let Some(number) = process.any(rng) {
            process.deliver(number, &self.store, rng.usize(1..4));
        }
    }

    fn unwatch(&mut self, n: usize) {
        if let Some(number) = self.processes[n].any(&mut self.rng) {
            self.processes[n].unwatch(number);
        }
    }

    fn notice_loss(&mut self, n: usize) {
        let lease = self.processes[n].leases.current;
        if lease.is_some_and(|lease| !self.store.lives(lease)) {
            self.processes[n].lose_lease();
        }
    }

    /// Expires a lease that no process keeps alive.
    fn expire_old(&mut self) {
        let kept: Vec<_> = self.processes.iter().map(|p| p.leases.current).collect();
        let old = self
            .store
            .leases()
            .find(|lease| !kept.contains(&Some(*lease)));
        self.store.expire(old);
    }

    fn wipe(&mut self) {
        self.store.wipe();
        for process in &mut self.processes {
            process.store_went_back();
        }
    }

    /// Replaces a process by a new one.
    fn crash(&mut self, n: usize) {
        self.processes[n] = Process::new(n);
    }

    /// Checks what holds at any time.
    fn check_always(&self) {
        for key in KEYS {
            let kv = self.store.get(key.as_bytes());
            let holders = self.processes.iter().flat_map(|p| p.owned_keys(key)).filter(|owned_key| {
                matches!(owned_key.phase, Phase::Held { lease, .. } if kv.and_then(KeyValue::lease) == Some(lease))
            });
            assert!(holders.count() <= 1, "two hold {key}");
            for process in &self.processes {
                for owned_key in process.owned_keys(key) {
                    if let Phase::Held { lease, .. } = owned_key.phase {
                        let of_now = process.leases.current == Some(lease);
                        let retired = process.retired.contains(&lease);
                        assert!(of_now || retired, "an old lease: {owned_key:?}");
                    }
                }
            }
        }
    }

    /// Checks that no process deletes or overwrites a key of another, except for a first `Replace`.
    fn check_fence(&self, n: usize, key: &Bytes, step: KeyStep) {
        let owner = format!("process{n} ");
        let Some(kv) = self.store.get(key) else {
            return;
        };
        let others = valid(kv) && !kv.value().starts_with(owner.as_bytes());
        if !others || !self.store.holds(kv, step) {
            return;
        }
        assert!(
            matches!(step, KeyStep::Write(..)),
            "deleted another's {key:?}"
        );
        let mut owned_keys = self.processes[n].owned_keys(std::str::from_utf8(key).unwrap());
        let owned_key = owned_keys
            .find(|owned_key| owned_key.phase == Phase::InFlight(step))
            .unwrap();
        assert!(
            owned_key.policy == OnConflict::Replace && !owned_key.was_held(),
            "took another's key: {owned_key:?}"
        );
    }

    /// Stops all faults, and delivers everything until nothing changes.
    fn calm(&mut self) {
        let before = self.store.writes;
        let owned_keys: usize = self.processes.iter().map(Process::len).sum();
        for round in 0.. {
            assert!(
                round < ROUNDS,
                "it does not come to rest: {:#?}",
                self.processes
            );
            while self.store.leases().any(|lease| self.is_old(lease)) {
                self.expire_old();
            }
            let mut busy = false;
            for n in 0..self.processes.len() {
                self.notice_loss(n);
                self.processes[n].lose_retired(&self.store);
                if self.processes[n].wants_a_lease() {
                    let lease = self.store.grant();
                    self.processes[n].leases.current = Some(lease);
                }
                self.processes[n].send();
                self.execute(n);
                busy |= self.processes[n].is_executed();
                self.answer(n, true);
                self.processes[n].watch();
                busy |= self.processes[n].deliver_all(&self.store);
            }
            if !busy {
                break;
            }
        }
        let writes = self.store.writes - before;
        assert!(
            writes <= 5 * owned_keys,
            "{writes} writes for {owned_keys} owned keys"
        );
    }

    fn is_old(&self, lease: LeaseId) -> bool {
        self.processes
            .iter()
            .all(|p| p.leases.current != Some(lease))
    }

    /// Checks the guarantees after [`World::calm`].
    fn check(&self) {
        for key in KEYS {
            let kv = self.store.get(key.as_bytes());
            let mut held = 0;
            for process in &self.processes {
                for owned_key in process.owned_keys(key) {
                    assert!(!owned_key.is_leaving(), "it never left: {owned_key:?}");
                    match owned_key.phase {
                        Phase::Held { lease, revision } => {
                            held += 1;
                            let kv =
                                kv.unwrap_or_else(|| panic!("held, and not there: {owned_key:?}"));
                            assert_eq!(Some(lease), process.leases.current, "{owned_key:?}");
                            assert_eq!((kv.lease(), kv.mod_revision()), (Some(lease), revision));
                            assert_eq!(kv.value(), &owned_key.value, "not the newest");
                        }
                        Phase::Yielded { to: by } => {
                            let owner = kv.and_then(KeyValue::lease);
                            assert_eq!(owner, Some(by), "yielded to nobody: {owned_key:?}");
                            assert!(!self.is_old(by));
                        }
                        Phase::Conflict(_) => assert!(!owned_key.was_held(), "{owned_key:?}"),
                        Phase::Withdrawn => assert!(owned_key.is_withdrawn(), "{owned_key:?}"),
                        Phase::ToWrite(_)
                        | Phase::ToRead
                        | Phase::InFlight(_)
                        | Phase::Released => {
                            panic!("{owned_key:?}")
                        }
                    }
                }
            }
            let wanted = self.processes.iter().flat_map(|p| p.owned_keys(key));
            let wanted = wanted.filter(|owned_key| {
                !matches!(owned_key.phase, Phase::Conflict(_) | Phase::Withdrawn)
            });
            assert_eq!(held, usize::from(wanted.count() > 0), "holders of {key}");
            if held == 0 {
                assert_eq!(kv.and_then(KeyValue::lease), None, "left behind: {kv:?}");
            }
        }
    }

    /// Lets each holder of a key leave or crash, and checks that a waiting process takes the key.
    fn successors_go(&mut self) {
        for key in KEYS {
            while let Some(n) = self.processes.iter().position(|p| p.holds(key).is_some()) {
                match self.rng.bool() {
                    true => self.crash(n),
                    false => {
                        let number = self.processes[n].holds(key).unwrap();
                        self.processes[n].leave(number);
                    }
                }
                self.calm();
                self.check();
            }
        }
    }
}

#[test]
fn every_instance_is_restored_and_no_key_of_another_process_is_taken() {
    let seeds = std::env::var("OWNED_KEY_SEEDS").map_or(0..10_000, |seeds| {
        let seed = seeds.parse().unwrap();
        seed..seed + 1
    });
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            let steps = world.rng.usize(1..250);
            (0..steps).for_each(|_| world.step());
            world.calm();
            world.check();
            world.successors_go();
        });
        if let Err(panic) = result {
            println!("OWNED_KEY_SEEDS={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

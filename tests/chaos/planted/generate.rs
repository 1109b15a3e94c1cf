//! Generates correct histories: a model of etcd with clients, watchers, replicas, registrations and locks, driven by
//! a seed.

use fastrand::Rng;

use super::world::World;
use crate::history::{
    Answer, Call, Change, Era, Event, Final, Guard, History, Hold, Item, Keys, Leader, Line, Op,
    Outcome, Run, Sample, Shot, ShotKind, Time, Truth, Watch, WatchEnd,
};

const MS: Time = 1_000_000;
/// One step of the model.
const STEP: Time = 10 * MS;
const CLIENTS: u32 = 4;
const MEMBERS: u32 = 2;
const STEPS: u64 = 120;

/// A request that was sent.
struct Pending {
    call: Time,
    /// The step in which it is executed.
    at: u64,
    op: Call,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    /// The answer is lost.
    Unknown,
    /// It is lost, and the client does not know.
    Lost,
    /// It was refused.
    Refused,
}

/// A reader of a watch.
struct Reader {
    watch: Watch,
    queue: Vec<Event>,
}

struct Model {
    random: Rng,
    history: History,
    world: World,
    era: u32,
    now: Time,
    next_id: u64,
    pending: Vec<Option<Pending>>,
    readers: Vec<Reader>,
    next_watch: u64,
    lease: i64,
    /// The lease, the revision and the end of the validity of the registration.
    registered: Option<(i64, i64, Time)>,
    hold: [Option<Hold>; 2],
    count: u32,
}

/// A history of one store.
pub(crate) fn history(seed: u64) -> History {
    generate(seed, false)
}

/// A history whose store is lost once.
pub(crate) fn history_with_loss(seed: u64) -> History {
    generate(seed, true)
}

fn generate(seed: u64, with_loss: bool) -> History {
    let mut model = Model {
        random: Rng::with_seed(seed),
        history: History::default(),
        world: World::new(),
        era: 0,
        now: 1000 * MS,
        next_id: 0,
        pending: (0..CLIENTS).map(|_| None).collect(),
        readers: Vec::new(),
        next_watch: 0,
        lease: 100,
        registered: None,
        hold: [None, None],
        count: 0,
    };
    model.history.add(Line::Run(Run {
        seed,
        members: MEMBERS as usize,
        plan: Vec::new(),
        grace: 500 * MS,
        recovery: 2000 * MS,
    }));
    model.begin_era();
    for chain in 0..3 {
        model.watch(chain);
    }
    for step in 0..STEPS {
        model.step(step);
        if with_loss && step == STEPS / 2 {
            model.lose();
        }
    }
    model.finish();
    model.history
}

impl Model {
    fn begin_era(&mut self) {
        let (era, from) = (self.era, self.now);
        self.history.add(Line::Era(Era {
            era,
            from,
            to: None,
        }));
    }

    fn step(&mut self, step: u64) {
        self.now += STEP;
        for client in 0..CLIENTS as usize {
            match self.pending[client].take() {
                Some(pending) if pending.at <= step => self.execute(client as u32, pending),
                Some(pending) => self.pending[client] = Some(pending),
                None => self.call(client, step),
            }
        }
        self.register();
        self.seats();
        self.report();
        for reader in 0..self.readers.len() {
            let revisions = self.random.usize(1..5);
            self.deliver(reader, revisions);
        }
        if step.is_multiple_of(10) {
            self.shots();
        }
    }

    /// A client sends something.
    fn call(&mut self, client: usize, step: u64) {
        let key = format!("kv/{}", self.random.u8(..4));
        self.count += 1;
        let value = format!("{}", self.count);
        let op = match self.random.u8(..10) {
            0..3 => Call::Range {
                keys: if self.random.bool() {
                    Keys::one(&key)
                } else {
                    Keys::below("kv/")
                },
                serializable: self.random.u8(..4) == 0,
                revision: 0,
            },
            3..6 => Call::Put { key, value },
            6 => Call::Delete { key },
            _ => {
                let known = self.world.kvs.get(&key);
                let other = format!("kv/{}", 4 + self.random.u8(..2));
                let guard = Guard {
                    key: key.clone(),
                    create: false,
                    revision: known.map_or(0, |kv| kv.modified),
                    value: known.map(|kv| kv.value.clone()),
                };
                let change = |key: &String| Change {
                    key: key.clone(),
                    value: Some(value.clone()),
                };
                Call::Txn {
                    then: vec![change(&key), change(&other)],
                    when: vec![guard],
                }
            }
        };
        let fate = match self.random.u8(..20) {
            0 => Fate::Unknown,
            1 => Fate::Lost,
            2 => Fate::Refused,
            _ => Fate::Answered,
        };
        self.pending[client] = Some(Pending {
            call: self.now + self.random.u64(..MS),
            at: step + self.random.u64(1..4),
            op,
            fate,
        });
    }

    fn execute(&mut self, client: u32, pending: Pending) {
        let error = |maybe_applied| Outcome::Err {
            kind: "Timeout".to_owned(),
            maybe_applied,
            text: "no answer".to_owned(),
        };
        let res = match pending.fate {
            Fate::Answered => Outcome::Ok(self.world.execute(&pending.op)),
            Fate::Unknown => {
                self.world.execute(&pending.op);
                error(true)
            }
            Fate::Lost => error(true),
            Fate::Refused => error(false),
        };
        self.next_id += 1;
        let line = Op {
            client,
            id: self.next_id,
            call: pending.call,
            ret: Some(self.now + MS + self.random.u64(..2 * MS)),
            op: pending.op,
            res,
        };
        self.history.add(Line::Op(line));
    }

    /// A registration whose lease expires now and then: its client knows before etcd.
    fn register(&mut self) {
        let key = "/services/a/1";
        let state = match self.registered {
            Some((lease, revision, until)) if self.now < until => {
                // After one missed renewal there is no other.
                let misses = until < self.now + 60 * MS - STEP || self.random.u8(..20) == 0;
                let until = if misses { until } else { self.now + 60 * MS };
                self.registered = Some((lease, revision, until));
                "Registered"
            }
            Some((lease, ..)) => {
                if self.world.kvs.get(key).is_some_and(|kv| kv.lease == lease) {
                    self.world.delete(key);
                }
                self.registered = None;
                "Lost"
            }
            None => {
                self.lease += 1;
                let revision = self.world.put(key, "here", self.lease);
                self.registered = Some((self.lease, revision, self.now + 60 * MS));
                "Registered"
            }
        };
        let (lease, revision, until) = self.registered.unwrap_or_default();
        self.history.add(Line::Registration(Sample {
            name: "a".to_owned(),
            key: key.to_owned(),
            t0: self.now,
            t1: self.now + MS / 10,
            state: state.to_owned(),
            lease,
            revision,
            until,
        }));
    }

    /// A lock and an election, each given from one holder to the next.
    fn seats(&mut self) {
        for (n, seat) in ["lock/l/", "vote/v/"].into_iter().enumerate() {
            let election = n == 1;
            let Some(mut hold) = self.hold[n].take() else {
                self.count += 1;
                let key = format!("{seat}{:x}", self.count);
                let holder = format!("holder-{}", self.count % 3);
                let token = self.world.put(&key, &format!("{holder} leads"), self.lease);
                self.hold[n] = Some(Hold {
                    seat: seat.to_owned(),
                    election,
                    key,
                    token,
                    lease: self.lease,
                    call: self.now - MS,
                    ret: self.now + MS,
                    held_at: Vec::new(),
                    end: 0,
                    holder: holder.clone(),
                });
                if election {
                    self.history.add(Line::Leader(Leader {
                        observer: "o".to_owned(),
                        seat: seat.to_owned(),
                        t: self.now + 2 * MS,
                        token,
                        value: format!("{holder} leads"),
                    }));
                }
                continue;
            };
            hold.held_at.push(self.now);
            if !election {
                let value = format!("{} {}", hold.token, hold.held_at.len());
                let op = Call::Txn {
                    when: vec![Guard {
                        key: hold.key.clone(),
                        create: true,
                        revision: hold.token,
                        value: None,
                    }],
                    then: vec![Change {
                        key: "guarded/l".to_owned(),
                        value: Some(value),
                    }],
                };
                let pending = Pending {
                    call: self.now,
                    at: 0,
                    op,
                    fate: Fate::Answered,
                };
                self.execute(CLIENTS, pending);
            }
            if hold.held_at.len() < 5 {
                self.hold[n] = Some(hold);
            } else {
                hold.end = self.now + MS;
                self.world.delete(&hold.key);
                self.history.add(Line::Hold(hold));
            }
        }
    }

    /// The members report what happened, and the watches queue it.
    fn report(&mut self) {
        let events = self.world.take();
        let plain = events.iter().map(|event| Event {
            prev: None,
            ..event.clone()
        });
        let plain: Vec<Event> = plain.collect();
        for member in 0..MEMBERS {
            if !plain.is_empty() {
                self.history.add(Line::Truth(Truth {
                    member,
                    era: self.era,
                    t: self.now + MS + self.random.u64(..MS),
                    skipped_to: 0,
                    events: plain.clone(),
                }));
            }
        }
        for reader in &mut self.readers {
            let watch = &reader.watch;
            let wanted = events.iter().filter(|event| {
                let filtered = if event.del {
                    watch.no_delete
                } else {
                    watch.no_put
                };
                watch.keys.contains(&event.kv.key) && !filtered && event.kv.modified >= watch.from
            });
            let wanted = wanted.map(|event| Event {
                prev: event.prev.clone().filter(|_| watch.prev_kv),
                ..event.clone()
            });
            reader.queue.extend(wanted);
        }
    }

    fn watch(&mut self, chain: u32) {
        self.next_watch += 1;
        let keys = Keys::below("kv/");
        let watch = Watch {
            watch: self.next_watch,
            chain,
            t: self.now,
            from: self.world.revision + 1,
            or_earlier: false,
            prev_kv: chain == 1,
            no_put: false,
            no_delete: chain == 2,
            listed: (chain == 0).then(|| self.world.list(&keys)),
            keys,
        };
        self.history.add(Line::Watch(watch.clone()));
        let queue = Vec::new();
        self.readers.push(Reader { watch, queue });
    }

    /// Delivers some whole revisions as one item, or progress.
    fn deliver(&mut self, reader: usize, revisions: usize) {
        let t = self.now + 3 * MS;
        let reader = &mut self.readers[reader];
        let chunks = reader.queue.chunk_by(|a, b| a.kv.modified == b.kv.modified);
        let count: usize = chunks.take(revisions).map(<[Event]>::len).sum();
        let events: Vec<Event> = reader.queue.drain(..count).collect();
        let last = events.last().map(|event| event.kv.modified);
        let idle = last.is_none() && self.random.u8(..4) == 0;
        let Some(revision) = last.or(idle.then_some(self.world.revision)) else {
            return;
        };
        self.history.add(Line::Item(Item {
            watch: reader.watch.watch,
            t,
            revision,
            events,
        }));
    }

    fn shots(&mut self) {
        for (name, kind, prefix) in [
            ("mirror", ShotKind::Mirror, "kv/"),
            ("view", ShotKind::View, "/services/a/"),
        ] {
            let keys = Keys::below(prefix);
            self.history.add(Line::Shot(Shot {
                name: name.to_owned(),
                kind,
                t0: self.now,
                t1: self.now + MS / 10,
                revision: self.world.revision,
                kvs: self.world.list(&keys),
                keys,
                stale: false,
            }));
        }
    }

    /// The store is lost: all watches end, the lease is gone, and everything begins anew.
    fn lose(&mut self) {
        self.now += STEP;
        let (era, to) = (self.era, Some(self.now));
        let from = self.history.eras[era as usize].from;
        self.history.add(Line::Era(Era { era, from, to }));
        self.now += STEP;
        self.era += 1;
        self.world = World::new();
        self.begin_era();
        self.registered = None;
        self.hold = [None, None];
        for reader in std::mem::take(&mut self.readers) {
            self.history.add(Line::WatchEnd(WatchEnd {
                watch: reader.watch.watch,
                t: self.now + MS,
                kind: "Rewound".to_owned(),
                text: "the store was replaced".to_owned(),
            }));
            self.watch(reader.watch.chain);
        }
    }

    /// Everything is answered and delivered.
    fn finish(&mut self) {
        let quiet = self.now;
        self.now += STEP;
        for client in 0..CLIENTS as usize {
            if let Some(pending) = self.pending[client].take() {
                self.execute(client as u32, pending);
            }
        }
        let op = Call::Put {
            key: "kv/end".to_owned(),
            value: "end".to_owned(),
        };
        let pending = Pending {
            call: self.now,
            at: 0,
            op,
            fate: Fate::Answered,
        };
        self.execute(0, pending);
        if self.registered.is_none() {
            self.register();
        }
        self.report();
        for reader in 0..self.readers.len() {
            self.deliver(reader, usize::MAX);
        }
        self.now += STEP;
        let all = Keys {
            key: String::new(),
            end: "\u{10FFFF}".to_owned(),
        };
        self.history.add(Line::Final(Final {
            quiet,
            t: self.now,
            revision: self.world.revision,
            kvs: self.world.list(&all),
        }));
        self.now += STEP;
        self.shots();
        let answer = Answer {
            revision: self.world.revision,
            kvs: self.world.list(&Keys::below("kv/")),
            ..Answer::default()
        };
        self.history.add(Line::Op(Op {
            client: 0,
            id: u64::MAX,
            call: self.now,
            ret: Some(self.now + MS),
            op: Call::Range {
                keys: Keys::below("kv/"),
                serializable: false,
                revision: 0,
            },
            res: Outcome::Ok(answer),
        }));
    }
}

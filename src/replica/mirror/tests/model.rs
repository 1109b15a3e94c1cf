//! Model of a store, an unreliable watch and a reader of any speed, around the parts of a mirror that do no
//! I/O.
//!
//! One seed is one history. It begins with faults and ends without: then the contents, and the map that the
//! reader made of the events, equal the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fastrand::Rng;

use crate::error::{Error, Result};
use crate::grpc::etcd_rs_proto::mvccpb;
use crate::replica::mirror::change_queue::MirrorChangeQueue;
use crate::replica::mirror::contents::Snapshot;
use crate::replica::mirror::event::{KeyChange, MirrorEvent, ResetCause};
use crate::replica::mirror::handle::Shared;
use crate::replica::mirror::list::List;
use crate::rpc::watch::{Event, WatchResponse};
use crate::runtime::{BoundedReceiver, Capacity, bounded_queue};
use crate::types::{KeyValue, ResponseHeader, Revision};

type Keys = BTreeMap<Bytes, KeyValue>;

/// Events of one revision in the range; there may be none.
type Change = Vec<mvccpb::Event>;

#[derive(Default)]
struct Store {
    keys: Keys,
    /// `history[n]` made revision `n + 2`.
    history: Vec<Change>,
    compacted: i64,
}

impl Store {
    fn revision(&self) -> i64 {
        self.history.len() as i64 + 1
    }

    fn change(&mut self, rng: &mut Rng) {
        let at = self.revision() + 1;
        let mut names: Vec<u8> = (0..6).collect();
        rng.shuffle(&mut names);
        let mut change = Change::new();
        for name in names.into_iter().take(rng.usize(0..4)) {
            let key = Bytes::from(vec![b'a' + name]);
            let mut kv = mvccpb::KeyValue {
                key: key.clone(),
                mod_revision: at,
                ..Default::default()
            };
            let mut kind = mvccpb::event::EventType::Delete;
            if rng.u32(0..3) > 0 {
                kind = mvccpb::event::EventType::Put;
                kv.value = vec![b'x'; rng.usize(0..200)].into();
                let before = self.keys.get(&key);
                kv.create_revision = before.map_or(at, |kv| kv.create_revision);
                kv.version = before.map_or(1, |kv| kv.version + 1);
                self.keys.insert(key, kv.clone().into());
            } else if self.keys.remove(&key).is_none() {
                continue;
            }
            change.push(mvccpb::Event {
                r#type: kind.into(),
                kv: Some(kv),
                prev_kv: None,
            });
        }
        self.history.push(change);
    }

    fn events(&self, from: i64, to: i64) -> Vec<Event> {
        let revisions = (from.max(2)..=to).map(|at| &self.history[at as usize - 2]);
        let events = revisions.flatten().cloned();
        events.map(|event| Event::read(event).unwrap()).collect()
    }
}

/// Reader that applies every event and checks that it is exact.
#[derive(Default)]
struct Reader {
    keys: Keys,
    revision: Revision,
    stale: Option<Instant>,
    resets: usize,
    rewinds: usize,
}

impl Reader {
    fn read(&mut self, event: MirrorEvent) {
        let (revision, changes) = match event {
            MirrorEvent::Changed { revision, changes } => {
                assert!(revision > self.revision && self.resets > 0);
                (revision, changes)
            }
            MirrorEvent::Reset {
                revision,
                cause,
                changes,
            } => {
                assert_eq!(cause == ResetCause::First, self.resets == 0);
                self.resets += 1;
                self.rewinds += usize::from(cause == ResetCause::Rewound);
                let keys: Vec<_> = changes.iter().map(KeyChange::key).collect();
                assert!(
                    keys.windows(2).all(|two| two[0] < two[1]),
                    "sorted, each once"
                );
                (revision, changes)
            }
            MirrorEvent::Stale { since } => {
                assert_ne!(self.stale.replace(since), Some(since), "stale twice");
                return;
            }
            MirrorEvent::Live => {
                assert!(self.stale.take().is_some(), "live twice");
                return;
            }
        };
        self.revision = revision;
        for change in changes {
            match change {
                KeyChange::Put { kv, prev } => {
                    assert_ne!(prev.as_ref(), Some(&kv), "no change");
                    let before = self.keys.insert(kv.key().clone(), kv);
                    assert_eq!(before, prev, "as it was");
                }
                KeyChange::Deleted { prev, .. } => {
                    assert_eq!(self.keys.remove(prev.key()), Some(prev), "as it was");
                }
            }
        }
    }
}

struct World {
    rng: Rng,
    store: Store,
    shared: Arc<Shared>,
    changes: MirrorChangeQueue,
    receiver: BoundedReceiver<Result<MirrorEvent>>,
    /// The first revision that the watch has not delivered; `None` while there is no watch.
    next: Option<i64>,
    /// Whether the store was replaced since the watch began.
    rewound: bool,
    /// The number of replaced stores that lists have shown.
    epoch: u64,
    reader: Reader,
    losses: usize,
    room: Capacity,
}

impl World {
    fn new(seed: u64, room: Capacity) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut store = Store::default();
        for _ in 0..rng.usize(0..10) {
            store.change(&mut rng);
        }
        let (bounded_sender, receiver) = bounded_queue(room, Err);
        if seed.is_multiple_of(2) {
            // Half of the readers read a channel.
            receiver.receiver();
        }
        let shared = Arc::new(Shared::default());
        shared.request_changes();
        let mut world = World {
            rng,
            store,
            changes: MirrorChangeQueue::new(bounded_sender, Arc::clone(&shared)),
            shared,
            receiver,
            next: None,
            rewound: false,
            epoch: 0,
            reader: Reader::default(),
            losses: 0,
            room,
        };
        world.list();
        world
    }

    fn step(&mut self) {
        self.do_something();
        // A `Reset` and one `Stale` or `Live` may exceed the bound.
        assert!(self.receiver.len() <= self.room.items + 2);
    }

    fn do_something(&mut self) {
        match self.rng.u32(0..100) {
            0..30 => self.store.change(&mut self.rng),
            30..60 => self.deliver(),
            60..65 => self.list(),
            65..69 => self.health(),
            69..72 => self.store.compacted = self.rng.i64(0..=self.store.revision()),
            72 if self.rng.bool() => {
                self.store = Store::default();
                self.rewound = true;
            }
            73..76 => self.changes.poll(),
            76..80 => self.changes.step(),
            80..83 => drop(self.shared.snapshot()),
            _ => {
                let count = self.rng.usize(1..4);
                self.read(count);
            }
        }
    }

    fn health(&mut self) {
        let up = self.next.is_some() && self.rng.bool();
        match up {
            true => self.changes.set_live(),
            false => self.changes.set_stale(Error::invalid("down")),
        }
    }

    /// Delivers some whole revisions, a progress notification, or the end of the watch.
    fn deliver(&mut self) {
        let Some(next) = self.next else { return };
        let revision = self.store.revision();
        if self.rewound || next <= self.store.compacted {
            self.next = None;
            self.losses += 1;
            return self.changes.set_stale(Error::invalid("lost"));
        }
        if next > revision {
            return;
        }
        let to = self.rng.i64(next..=revision);
        let header = ResponseHeader::new(0, 0, to, 0);
        let events = self.store.events(next, to);
        if events.is_empty() && self.rng.bool() {
            return;
        }
        self.next = Some(to + 1);
        self.changes.apply(&WatchResponse::new(header, events));
    }

    fn list(&mut self) {
        if self.next.is_none() {
            let list = self.store.keys.values().cloned().collect();
            let revision = self.store.revision();
            self.epoch += u64::from(std::mem::take(&mut self.rewound));
            self.changes.reset(List {
                contents: Snapshot::new(list, Revision::new(revision)),
                epoch: self.epoch,
            });
            self.next = Some(revision + 1);
        }
    }

    fn read(&mut self, count: usize) {
        let events = std::iter::from_fn(|| self.receiver.try_recv().ok());
        let events: Vec<_> = events.take(count).collect();
        for event in events {
            self.reader.read(event.unwrap());
        }
    }

    fn read_all(&mut self) {
        self.read(usize::MAX);
        if !self.changes.is_behind() {
            let shown = self.shared.snapshot();
            assert!(self.reader.keys.values().eq(shown.iter()));
        }
    }

    fn calm(&mut self) {
        for _ in 0..60 {
            self.list();
            self.deliver();
            self.read_all();
            self.changes.catch_up();
            while self.changes.is_resetting() {
                self.changes.step();
            }
        }
        self.changes.set_live();
        while self.changes.is_resetting() {
            self.changes.step();
        }
        self.read_all();
        assert_eq!(self.reader.keys, self.store.keys);
        assert_eq!(self.reader.stale, None);
        assert!(!self.changes.is_behind());
    }
}

#[test]
fn a_reader_of_any_speed_ends_with_the_contents_of_the_store() {
    for seed in 0..4_000 {
        let mut rng = Rng::with_seed(seed);
        let room = Capacity {
            items: rng.usize(2..8),
            bytes: rng.usize(500..4_000),
        };
        let mut world = World::new(seed, room);
        (0..rng.usize(1..150)).for_each(|_| world.step());
        world.calm();
        // A slow reader may get one `Reset` for several rewinds.
        assert_eq!(world.reader.rewinds > 0, world.epoch > 0, "seed {seed}");
    }
}

#[test]
fn a_fast_reader_gets_exactly_one_reset_per_loss() {
    let room = Capacity {
        items: 1 << 20,
        bytes: 1 << 30,
    };
    for seed in 0..4_000 {
        let mut world = World::new(seed, room);
        for _ in 0..100 {
            world.step();
            world.read_all();
        }
        world.calm();
        assert_eq!(world.reader.resets, 1 + world.losses, "seed {seed}");
        assert_eq!(world.reader.rewinds as u64, world.epoch, "seed {seed}");
    }
}

/// A queue whose reader has room, and a list of `0..keys`.
struct Large {
    shared: Arc<Shared>,
    queue: MirrorChangeQueue,
    receiver: BoundedReceiver<Result<MirrorEvent>>,
    list: List,
}

fn large(keys: u32) -> Large {
    let room = Capacity {
        items: 10,
        bytes: 1 << 30,
    };
    let (bounded_sender, receiver) = bounded_queue(room, Err);
    let shared = Arc::new(Shared::default());
    let kv = |n: u32| KeyValue {
        key: n.to_be_bytes().to_vec().into(),
        ..KeyValue::default()
    };
    let list = List {
        contents: Snapshot::new((0..keys).map(kv).collect(), Revision::new(5)),
        epoch: 0,
    };
    Large {
        queue: MirrorChangeQueue::new(bounded_sender, Arc::clone(&shared)),
        shared,
        receiver,
        list,
    }
}

#[test]
fn a_difference_of_many_keys_takes_many_steps() {
    let Large {
        shared,
        mut queue,
        receiver,
        list,
    } = large(900);
    shared.request_changes();
    queue.reset(list);
    // Three keys in a step, and one step that finds the end.
    for _ in 0..300 {
        queue.step();
        assert!(queue.is_resetting() && receiver.len() == 0);
    }
    queue.step();
    let reset = receiver.try_recv().unwrap().unwrap();
    assert!(matches!(reset, MirrorEvent::Reset { changes, .. } if changes.len() == 900));
    assert!(!queue.is_behind());
}

#[test]
fn a_reader_that_needs_no_differences_gets_none() {
    let Large {
        shared,
        mut queue,
        receiver,
        list,
    } = large(10_000);
    shared.leave_out_differences();
    shared.request_changes();
    queue.reset(list);
    let reset = receiver.try_recv().unwrap().unwrap();
    assert_eq!(
        reset,
        MirrorEvent::Reset {
            revision: Revision::new(5),
            cause: ResetCause::First,
            changes: Vec::new()
        }
    );
    assert!(!queue.is_behind());
}

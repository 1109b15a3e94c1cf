use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::discovery::change::Cause;
use crate::discovery::codec::Codec;
use crate::discovery::directory::{Edit, Step};
use crate::discovery::instance::Instance;
use crate::types::{KeyValue, LeaseId, Revision};

fn instance(id: &str, port: u16) -> Arc<Instance> {
    Arc::new(Instance::new("web", format!("h:{port}")).id(id))
}

fn added(n: usize) -> Told {
    Change::Added(instance(&n.to_string(), 1)).into()
}

fn removed(n: usize, cause: Cause) -> Told {
    let instance = instance(&n.to_string(), 1);
    Change::Removed { instance, cause }.into()
}

fn directory() -> Directory {
    let mut directory = Directory::new(Codec::Native, "/services/");
    let _ = directory.reset([], Revision::new(1));
    directory
}

/// Whether a worker that waits for the queue would be woken.
fn wakes(queue: &ChangeQueue) -> bool {
    let mut select = Select::new();
    queue.wait(&mut select);
    select.try_ready().is_ok()
}

// Fault: R16
#[test]
fn changes_that_nobody_asks_for_are_not_kept_and_wake_nobody() {
    let (mut queue, receiver, wanted) = ChangeQueue::with_room(4);
    let directory = directory();
    for n in 0..2_000 {
        queue.tell(added(n));
        queue.flush(&directory);
        assert!(!wakes(&queue));
    }
    assert!(receiver.is_empty() && queue.backlog.is_empty());
    assert!(wanted.want() && !wanted.want(), "the first time, once");
    queue.flush(&directory);
    queue.tell(added(7));
    assert_eq!(receiver.try_iter().count(), 1, "from then on");
}

// Fault: R16
#[test]
fn a_full_queue_wakes_nobody_until_its_reader_takes_something() {
    let (mut queue, receiver, wanted) = ChangeQueue::with_room(4);
    wanted.want();
    for n in 0..10 {
        queue.tell(added(n));
    }
    queue.flush(&directory());
    assert!(queue.is_behind() && !wakes(&queue));
    receiver.recv().unwrap();
    assert!(wakes(&queue));
    queue.flush(&directory());
    assert!(!wakes(&queue), "what had room has gone");
    assert_eq!(receiver.len(), 4);
}

// Fault: R17
#[test]
fn ten_thousand_that_go_at_once_go_one_by_one_each_with_its_cause() {
    let (mut queue, receiver, wanted) = ChangeQueue::with_room(64);
    wanted.want();
    let directory = directory();
    let cause = |n: usize| match n % 2 {
        0 => Cause::Left,
        _ => Cause::Expired,
    };
    (0..10_000).for_each(|n| queue.tell(removed(n, cause(n))));
    let mut seen = BTreeMap::new();
    while queue.is_behind() || !receiver.is_empty() {
        queue.flush(&directory);
        for change in receiver.try_iter() {
            let Change::Removed { instance, cause } = change else {
                panic!("{change:?}");
            };
            seen.insert(instance.id.parse::<usize>().unwrap(), cause);
        }
    }
    assert!(seen.into_iter().eq((0..10_000).map(|n| (n, cause(n)))));
}

#[test]
fn what_comes_and_goes_while_the_reader_is_away_takes_no_room() {
    let (mut queue, receiver, wanted) = ChangeQueue::with_room(4);
    wanted.want();
    (0..5).for_each(|n| queue.tell(added(n)));
    for _ in 0..10_000 {
        queue.tell(added(9));
        queue.tell(removed(9, Cause::Left));
    }
    assert!(queue.backlog.places() < 100, "{:?}", queue.backlog);
    queue.flush(&directory());
    let first = receiver.try_iter().count();
    queue.flush(&directory());
    assert_eq!((first, receiver.try_iter().count()), (4, 1));
}

#[derive(Clone, Debug)]
enum Input {
    /// Several keys at one revision: which, and the address they have then, if any.
    Events(Vec<(u8, Option<u8>)>),
    Verdict(i64, Option<bool>),
    Relist(Vec<(u8, u8)>),
    Health(bool),
    Read(usize),
}

fn input() -> impl Strategy<Value = Input> {
    let edits = prop::collection::vec((0..5u8, prop::option::weighted(0.6, 0..3u8)), 1..5);
    let list = prop::collection::vec((0..5u8, 0..3u8), 0..5);
    prop_oneof![
        6 => edits.prop_map(Input::Events),
        3 => (1..3i64, any::<Option<bool>>()).prop_map(|(l, alive)| Input::Verdict(l, alive)),
        1 => list.prop_map(Input::Relist),
        2 => any::<bool>().prop_map(Input::Health),
        4 => (1..6usize).prop_map(Input::Read),
    ]
}

fn kv(key: u8, addr: u8, at: i64) -> KeyValue {
    KeyValue {
        key: format!("/services/web/{key}").into(),
        // The last property changes with every revision, the address only at times.
        value: format!(
            r#"{{"id":"{key}","addr":"h:{}","version":"{at}"}}"#,
            addr + 1
        )
        .into(),
        lease: i64::from(key % 2) + 1,
        mod_revision: at,
        ..KeyValue::default()
    }
}

/// A reader that takes every change literally.
#[derive(Default)]
struct Reader {
    known: BTreeMap<String, Arc<Instance>>,
    stale: bool,
    causes: BTreeSet<(String, String)>,
}

impl Reader {
    fn apply(&mut self, change: &Change) {
        for (gone, cause) in change.causes() {
            let old = self.known.remove(&gone.id);
            assert_eq!(old.as_ref(), Some(gone), "removed as it was: {change:?}");
            self.causes.insert((gone.id.clone(), format!("{cause:?}")));
        }
        for present in change.present() {
            let old = self.known.insert(present.id.clone(), Arc::clone(present));
            let is_new = match change {
                Change::Added(_) => true,
                Change::Reset { added, .. } => added.contains(present),
                _ => false,
            };
            assert_eq!(old.is_none(), is_new, "{change:?}");
            assert_ne!(old.as_ref(), Some(present), "no news: {change:?}");
            if let Change::Updated { before, .. } = change {
                assert_eq!(old.as_ref(), Some(before), "as it was: {change:?}");
            }
        }
        match change {
            Change::Stale { .. } => self.stale = true,
            Change::Live => assert!(std::mem::take(&mut self.stale), "live twice"),
            _ => {}
        }
    }
}

struct World {
    directory: Directory,
    queue: ChangeQueue,
    receiver: Receiver<Change>,
    wanted: Arc<Wanted>,
    reader: Reader,
    asked: Vec<LeaseId>,
    causes: BTreeSet<(String, String)>,
}

impl World {
    fn new() -> Self {
        let (queue, receiver, wanted) = ChangeQueue::with_room(3);
        World {
            directory: directory(),
            queue,
            receiver,
            wanted,
            reader: Reader::default(),
            asked: Vec::new(),
            causes: BTreeSet::new(),
        }
    }

    fn done(&mut self, step: Step) {
        let asked = step.suspects.iter().map(|suspect| suspect.lease);
        self.asked.extend(asked);
        for told in step.told() {
            let causes = told.change.causes();
            let named = causes.map(|(gone, cause)| (gone.id.clone(), format!("{cause:?}")));
            self.causes.extend(named);
            self.queue.tell(told);
        }
    }

    fn verdict(&mut self, lease: LeaseId, alive: Option<bool>) {
        if let Some(n) = self.asked.iter().position(|of| *of == lease) {
            self.asked.remove(n);
            let step = self.directory.verdict(lease, alive);
            self.done(step);
        }
    }

    fn read(&mut self, count: usize) {
        self.wanted.want();
        let changes: Vec<Change> = self.receiver.try_iter().take(count).collect();
        changes.iter().for_each(|change| self.reader.apply(change));
    }

    fn input(&mut self, input: Input, at: i64) {
        match input {
            Input::Events(edits) => {
                let edits: BTreeMap<_, _> = edits.into_iter().collect();
                let edits = edits.into_iter().map(|(key, addr)| match addr {
                    Some(addr) => Edit::Put(kv(key, addr, at)),
                    None => Edit::Delete(kv(key, 0, at).key.clone()),
                });
                let step = self.directory.apply(edits, Revision::new(at));
                self.done(step);
            }
            Input::Verdict(lease, alive) => self.verdict(LeaseId::new(lease).unwrap(), alive),
            Input::Relist(list) => {
                let list: BTreeMap<_, _> = list.into_iter().collect();
                let list = list.into_iter().map(|(key, addr)| kv(key, addr, at));
                let step = self.directory.reset(list, Revision::new(at));
                self.done(step);
            }
            Input::Health(up) => {
                let change = match up {
                    true => self.directory.up(),
                    false => self.directory.down(Instant::now()),
                };
                change.into_iter().for_each(|c| self.queue.tell(c.into()));
            }
            Input::Read(count) => self.read(count),
        }
        self.queue.flush(&self.directory);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whoever_applies_every_change_has_the_instances_however_slow_the_reader(
        inputs in prop::collection::vec(input(), 1..60),
    ) {
        let mut world = World::new();
        for (at, input) in (2..).zip(inputs) {
            world.input(input, at);
        }
        while let Some(lease) = world.asked.first().copied() {
            world.verdict(lease, Some(true));
        }
        world.read(usize::MAX);
        loop {
            world.queue.flush(&world.directory);
            if world.receiver.is_empty() {
                break;
            }
            world.read(usize::MAX);
        }
        prop_assert!(!world.queue.is_behind());
        let known: Vec<_> = world.reader.known.into_values().collect();
        prop_assert_eq!(&known[..], &*world.directory.instances());
        prop_assert_eq!(world.reader.stale, world.directory.stale_since().is_some());
        // A removal has a cause that it had, and none is made up for a slow reader.
        prop_assert!(world.reader.causes.is_subset(&world.causes));
    }
}

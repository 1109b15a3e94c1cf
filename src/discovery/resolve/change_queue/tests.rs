use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::discovery::codec::Format;
use crate::discovery::instance::Instance;
use crate::discovery::resolve::change::Cause;
use crate::discovery::resolve::directory::{Directory, DirectoryUpdate, KeyEvent};
use crate::types::{KeyValue, LeaseId, Revision};

fn instance(id: &str, port: u16) -> Arc<Instance> {
    Arc::new(Instance::new("web", format!("h:{port}")).id(id))
}

fn added(n: usize) -> ChangeRecord {
    Change::Added(instance(&n.to_string(), 1)).into()
}

fn removed(n: usize, cause: Cause) -> ChangeRecord {
    let instance = instance(&n.to_string(), 1);
    Change::Removed { instance, cause }.into()
}

fn directory() -> Directory {
    let mut directory = Directory::new(Format::default());
    let _ = directory.reset([], Revision::new(1));
    directory
}

/// Whether a worker that waits for the queue would be woken.
fn wakes(queue: &ChangeQueue) -> bool {
    let mut select = Select::new();
    queue.wait_for_room(&mut select);
    select.try_ready().is_ok()
}

/// A queue whose changes were requested, and its channel.
fn requested(capacity: usize) -> (ChangeQueue, Receiver<Change>) {
    let (mut queue, channel) = ChangeQueue::with_capacity(capacity);
    let receiver = channel.request().0.clone();
    queue.flush(|| directory().first_changes());
    assert!(receiver.is_empty(), "there are no instances");
    (queue, receiver)
}

// Fault: R16
#[test]
fn changes_that_were_not_requested_are_not_stored_and_wake_no_worker() {
    let (mut queue, channel) = ChangeQueue::with_capacity(4);
    let mut directory = directory();
    for n in 0..2_000 {
        queue.push(added(n));
        queue.flush(|| directory.first_changes());
        assert!(!wakes(&queue));
    }
    let _ = directory.reset([kv(1, 1, 2)], Revision::new(2));
    queue.flush(|| directory.first_changes());
    assert!(
        queue.backlog.is_empty() && queue.early.is_none(),
        "the changes were not requested"
    );
    let _ = directory.reset([], Revision::new(3));
    let (receiver, is_first) = channel.request();
    assert!(
        is_first && !channel.request().1,
        "only the first request creates the channel"
    );
    assert!(receiver.is_empty());
    queue.flush(|| directory.first_changes());
    queue.push(added(7));
    assert_eq!(receiver.try_iter().count(), 1, "from then on");
}

// Fault: R16
#[test]
fn a_full_queue_wakes_no_worker_until_its_reader_takes_a_change() {
    let (mut queue, receiver) = requested(4);
    for n in 0..10 {
        queue.push(added(n));
    }
    queue.flush(|| directory().first_changes());
    assert!(queue.is_full() && !wakes(&queue));
    receiver.recv().unwrap();
    assert!(wakes(&queue));
    queue.flush(|| directory().first_changes());
    assert!(!wakes(&queue), "what had room has gone");
    assert_eq!(receiver.len(), 4);
}

// Fault: R17
#[test]
fn ten_thousand_removals_at_once_are_reported_each_with_its_cause() {
    let (mut queue, receiver) = requested(64);
    let directory = directory();
    let cause = |n: usize| match n % 2 {
        0 => Cause::Left,
        _ => Cause::Expired,
    };
    (0..10_000).for_each(|n| queue.push(removed(n, cause(n))));
    let mut seen = BTreeMap::new();
    while queue.is_full() || !receiver.is_empty() {
        queue.flush(|| directory.first_changes());
        for change in receiver.try_iter() {
            let Change::Removed { instance, cause } = change else {
                panic!("{change:?}");
            };
            seen.insert(instance.id.parse::<usize>().unwrap(), cause);
        }
    }
    assert!(seen.into_iter().eq((0..10_000).map(|n| (n, cause(n)))));
}

/// The changes that a slow reader of a queue with room for one change receives.
fn received_late(records: impl IntoIterator<Item = ChangeRecord>) -> Vec<Change> {
    let (mut queue, receiver) = requested(1);
    queue.push(added(0));
    records.into_iter().for_each(|record| queue.push(record));
    let mut seen: Vec<Change> = receiver.try_iter().collect();
    while queue.is_full() {
        assert!(wakes(&queue), "there is room, and something to tell");
        queue.flush(|| directory().first_changes());
        seen.extend(receiver.try_iter());
    }
    assert_eq!(seen.remove(0), added(0).change);
    seen
}

#[test]
fn a_slow_reader_receives_the_difference_to_its_last_change() {
    let (old, new) = (instance("a", 1), instance("a", 2));
    let added = |instance: &Arc<Instance>| Change::Added(instance.clone());
    let updated = |before: &Arc<Instance>, instance: &Arc<Instance>| Change::Updated {
        instance: instance.clone(),
        before: before.clone(),
    };
    let removed = |instance: &Arc<Instance>, cause| Change::Removed {
        instance: instance.clone(),
        cause,
    };
    let received =
        |changes: &[Change]| received_late(changes.iter().cloned().map(ChangeRecord::from));
    // It changed, and changed back: the reader receives nothing.
    assert_eq!(received(&[updated(&old, &new), updated(&new, &old)]), []);
    // It was removed and added again: the reader receives both.
    let replaced = [removed(&old, Cause::Left), added(&new)];
    assert_eq!(received(&replaced), replaced);
    // It was removed twice: the reader receives the last cause.
    let twice = [
        removed(&old, Cause::Left),
        added(&new),
        removed(&new, Cause::Expired),
    ];
    assert_eq!(received(&twice), [removed(&old, Cause::Expired)]);
    let bad = |reason: &str| Change::Bad {
        key: "b".into(),
        reason: reason.into(),
    };
    assert_eq!(received(&[bad("no JSON"), bad("no id")]), [bad("no id")]);
    let now = Instant::now();
    let stale = |seconds| Change::Stale {
        since: now + std::time::Duration::from_secs(seconds),
    };
    assert_eq!(received(&[stale(1)]), [stale(1)]);
    assert_eq!(received(&[Change::Live]), [Change::Live]);
    assert_eq!(received(&[stale(1), Change::Live]), []);
    // The reader received `Stale` before; the view is stale for another reason now.
    assert_eq!(received(&[Change::Live, stale(2)]), [stale(2)]);
}

#[test]
fn new_changes_do_not_overtake_waiting_ones() {
    let (mut queue, receiver) = requested(2);
    (0..3).for_each(|n| queue.push(added(n)));
    let mut seen = vec![receiver.recv().unwrap()];
    queue.push(added(3));
    while queue.is_full() {
        queue.flush(|| directory().first_changes());
        seen.extend(receiver.try_iter());
    }
    let expected = (0..4).map(|n| added(n).change);
    assert!(seen.iter().cloned().eq(expected), "{seen:?}");
}

#[test]
fn a_queue_has_room_for_64_and_its_backlog_for_twice_the_instances() {
    let (mut queue, receiver) = requested(CAPACITY);
    (0..64).for_each(|n| queue.push(added(n)));
    assert!(!queue.is_full());
    let come = |queue: &mut ChangeQueue, n| queue.push(added(n));
    let go = |queue: &mut ChangeQueue, n| queue.push(removed(n, Cause::Left));
    let bound = |queue: &ChangeQueue, instances: usize| {
        let places = queue.backlog.len();
        assert!(places <= 2 * instances + 17, "{places} for {instances}");
    };
    // Very many instances are added and removed, without a read between.
    for n in 1000..5000 {
        come(&mut queue, n);
        go(&mut queue, n);
        bound(&queue, 0);
    }
    // One instance is added and removed while others exist, which are removed later.
    (1000..2000).for_each(|n| come(&mut queue, n));
    for _ in 0..1500 {
        come(&mut queue, 1);
        go(&mut queue, 1);
        bound(&queue, 1000);
    }
    come(&mut queue, 1);
    (1000..2000).for_each(|n| go(&mut queue, n));
    bound(&queue, 1);
    assert_eq!(receiver.len(), 64);
}

#[test]
fn instances_that_appear_and_disappear_unread_use_no_memory() {
    let (mut queue, receiver) = requested(4);
    (0..5).for_each(|n| queue.push(added(n)));
    for _ in 0..10_000 {
        queue.push(added(9));
        queue.push(removed(9, Cause::Left));
    }
    assert!(queue.backlog.len() < 100, "{:?}", queue.backlog);
    queue.flush(|| directory().first_changes());
    let first = receiver.try_iter().count();
    queue.flush(|| directory().first_changes());
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
    let events = prop::collection::vec((0..5u8, prop::option::weighted(0.6, 0..3u8)), 1..5);
    let list = prop::collection::vec((0..5u8, 0..3u8), 0..5);
    prop_oneof![
        6 => events.prop_map(Input::Events),
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
    channel: Arc<ChangeChannel>,
    reader: Reader,
    asked: Vec<LeaseId>,
    causes: BTreeSet<(String, String)>,
}

impl World {
    fn new() -> Self {
        let (queue, channel) = ChangeQueue::with_capacity(3);
        World {
            directory: directory(),
            queue,
            channel,
            reader: Reader::default(),
            asked: Vec::new(),
            causes: BTreeSet::new(),
        }
    }

    fn done(&mut self, update: DirectoryUpdate) {
        let asked = update.queries.iter().map(|query| query.lease);
        self.asked.extend(asked);
        for record in update.records() {
            let causes = record.change.causes();
            let named = causes.map(|(gone, cause)| (gone.id.clone(), format!("{cause:?}")));
            self.causes.extend(named);
            self.queue.push(record);
        }
    }

    fn lease_status(&mut self, lease: LeaseId, alive: Option<bool>) {
        if let Some(n) = self.asked.iter().position(|of| *of == lease) {
            self.asked.remove(n);
            let update = self.directory.lease_status(lease, alive);
            self.done(update);
        }
    }

    fn read(&mut self, count: usize) {
        let receiver = self.channel.request().0;
        let changes: Vec<Change> = receiver.try_iter().take(count).collect();
        changes.iter().for_each(|change| self.reader.apply(change));
    }

    fn input(&mut self, input: Input, at: i64) {
        match input {
            Input::Events(events) => {
                let events: BTreeMap<_, _> = events.into_iter().collect();
                let events = events.into_iter().map(|(key, addr)| match addr {
                    Some(addr) => KeyEvent::Put(kv(key, addr, at)),
                    None => KeyEvent::Delete(kv(key, 0, at).key.clone()),
                });
                let update = self.directory.apply(events, Revision::new(at));
                self.done(update);
            }
            Input::Verdict(lease, alive) => self.lease_status(LeaseId::new(lease).unwrap(), alive),
            Input::Relist(list) => {
                let list: BTreeMap<_, _> = list.into_iter().collect();
                let list = list.into_iter().map(|(key, addr)| kv(key, addr, at));
                let update = self.directory.reset(list, Revision::new(at));
                self.done(update);
            }
            Input::Health(up) => {
                let change = match up {
                    true => self.directory.up(),
                    false => self.directory.down(Instant::now()),
                };
                change.into_iter().for_each(|c| self.queue.push(c.into()));
            }
            Input::Read(count) => self.read(count),
        }
        self.queue.flush(|| self.directory.first_changes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_slow_reader_of_every_change_has_the_instances_of_the_directory(
        inputs in prop::collection::vec(input(), 1..60),
    ) {
        let mut world = World::new();
        for (at, input) in (2..).zip(inputs) {
            world.input(input, at);
        }
        while let Some(lease) = world.asked.first().copied() {
            world.lease_status(lease, Some(true));
        }
        world.read(usize::MAX);
        loop {
            world.queue.flush(|| world.directory.first_changes());
            if world.channel.request().0.is_empty() {
                break;
            }
            world.read(usize::MAX);
        }
        prop_assert!(!world.queue.is_full());
        let known: Vec<_> = world.reader.known.into_values().collect();
        prop_assert_eq!(&known[..], &*world.directory.instances());
        prop_assert_eq!(world.reader.stale, world.directory.stale_since().is_some());
        // A slow reader receives no cause that was not reported.
        prop_assert!(world.reader.causes.is_subset(&world.causes));
    }
}

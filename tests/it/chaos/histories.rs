//! Histories of each key, as recorded by watches.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use etcd_blocking::crossbeam_channel::{Receiver, Select};
use etcd_blocking::watch::{WatchKey, WatchSet};
use etcd_blocking::{Result, Revision, Watch, WatchResponse, Watcher};

use super::{Run, counters};

/// One change: version, revision, value.
pub(super) type Change = (i64, Revision, String);

/// The changes of keys that are never deleted, in the order in which a watch delivered them.
#[derive(Debug, Default)]
pub(super) struct Histories(Mutex<BTreeMap<String, Vec<Change>>>);

impl Histories {
    /// Adds a response. Every change of a key must arrive once and in order: a missing
    /// or repeated change breaks the sequence of versions.
    fn add(&self, item: Result<WatchResponse>) {
        let mut histories = self.0.lock().unwrap();
        for event in item.expect("the watch goes on").events() {
            let kv = event.kv();
            let history = histories.entry(kv.key_lossy().into_owned()).or_default();
            let (version, revision) = history.last().map_or((0, Revision::NONE), |c| (c.0, c.1));
            assert_eq!(kv.version(), version + 1, "an event of {}", kv.key_lossy());
            assert!(kv.mod_revision() > revision && event.revision() == kv.mod_revision());
            let value = kv.value_str().unwrap().to_owned();
            history.push((kv.version(), kv.mod_revision(), value));
        }
    }

    pub(super) fn of(&self, key: &str) -> Vec<Change> {
        let histories = self.0.lock().unwrap();
        histories.get(key).cloned().unwrap_or_default()
    }

    /// The number of changes.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }
}

/// A hundred watches of one key each, half of them in a set, and one watch of all keys.
#[derive(Debug)]
pub(super) struct Watches {
    pub(super) each: Histories,
    pub(super) together: Histories,
    /// The keys that the holders of locks and the leaders write.
    pub(super) seats: Histories,
    set: WatchSet,
    keys: Vec<WatchKey>,
    watchers: Vec<Watcher>,
    all: Watcher,
    of_seats: Watcher,
    over: AtomicBool,
}

impl Watches {
    pub(super) fn start(run: &Run, seats: &str) -> Self {
        let set = run.client.watch_set().unwrap();
        let half = counters::KEYS / 2;
        let keys = set.add_all((0..half).map(|n| Watch::key(counters::key(n))));
        let watch = |watch| run.client.watch(watch).unwrap();
        Watches {
            each: Histories::default(),
            together: Histories::default(),
            seats: Histories::default(),
            keys: keys.unwrap(),
            set,
            watchers: (half..counters::KEYS)
                .map(|n| watch(Watch::key(counters::key(n))))
                .collect(),
            all: watch(Watch::prefix(counters::PREFIX)),
            of_seats: watch(Watch::prefix(seats.to_owned())),
            over: AtomicBool::new(false),
        }
    }

    /// Ends the threads that read the watches.
    pub(super) fn over(&self) -> &AtomicBool {
        &self.over
    }

    pub(super) fn follow_set(&self) {
        self.follow(self.set.receiver(), |(key, item)| {
            assert!(self.keys.contains(&key));
            self.each.add(item);
        });
    }

    pub(super) fn follow_all(&self) {
        let mut last = Revision::NONE;
        self.follow(self.all.receiver(), |item| {
            for event in item.iter().flat_map(WatchResponse::events) {
                assert!(event.revision() > last, "one change in each revision");
                last = event.revision();
            }
            self.together.add(item);
        });
    }

    pub(super) fn follow_seats(&self) {
        self.follow(self.of_seats.receiver(), |item| self.seats.add(item));
    }

    pub(super) fn follow_watchers(&self) {
        let mut select = Select::new();
        for watcher in &self.watchers {
            select.recv(watcher.receiver());
        }
        while !self.over.load(SeqCst) {
            if let Ok(ready) = select.select_timeout(Duration::from_millis(100)) {
                let watcher = &self.watchers[ready.index()];
                self.each.add(ready.recv(watcher.receiver()).unwrap());
            }
        }
    }

    fn follow<T>(&self, receiver: &Receiver<T>, mut each: impl FnMut(T)) {
        while !self.over.load(SeqCst) {
            if let Ok(item) = receiver.recv_timeout(Duration::from_millis(100)) {
                each(item);
            }
        }
    }
}

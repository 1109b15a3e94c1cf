//! Watches of single keys of which only the newest event is kept.

mod slots;

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::event::{Event, WatchResponse};
use super::request::Watch;
use super::set::WatchKey;
use super::sink::Sink;
use super::state::Id;
use super::watch_registry::{Command, Host};
use crate::error::{Error, Operation, Result};
use slots::Slots;

/// Follows the newest event of many keys, each by a watch of its own.
///
/// Made by [`Client::latest_set`](crate::Client::latest_set). For a reader to whom only the present
/// matters: an event that was not taken yet is replaced by the next one of its key. So the set holds
/// at most one event per watch, it is never full, and a slow reader never pauses a watch on the
/// server. A [`WatchSet`](crate::watch::WatchSet) delivers every event instead.
///
/// The reader waits for [`receiver`](LatestSet::receiver) and then calls [`take`](LatestSet::take).
/// An `Err` ends the watch it names, and not the set.
///
/// Dropping the set cancels all its watches, without blocking. It keeps its client alive.
///
/// ```no_run
/// # use etcd_blocking::{Client, Watch};
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let set = client.latest_set()?;
/// for n in 0..1000 {
///     set.submit(Watch::key(format!("job/{n}")))?;
/// }
/// while set.receiver().recv().is_ok() {
///     for (key, item) in set.take() {
///         let event = item?;
///         println!("{key:?}: {:?} {:?}", event.kind(), event.kv().value());
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct LatestSet {
    host: Box<dyn Host>,
    parts: LatestSetParts,
}

/// The reader's half of a latest set.
#[derive(Debug)]
pub(crate) struct LatestSetParts {
    pub(super) number: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) receiver: Receiver<()>,
    pub(super) task: mpsc::UnboundedSender<Command>,
}

/// What the reader and the watch task share. The lock is held for a look at a map, never while
/// anybody waits.
#[derive(Debug)]
pub(super) struct Shared {
    slots: Mutex<Slots>,
    /// Holds one token from the time there is something to take until it is taken.
    wake: Sender<()>,
}

impl LatestSet {
    pub(crate) fn new(host: Box<dyn Host>, parts: LatestSetParts) -> Self {
        LatestSet { host, parts }
    }

    /// Adds a watch of one key and returns at once.
    ///
    /// What the server refuses it with arrives as the only item of this watch. A watch without a
    /// start revision sees what is written after the server has it.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a watch that makes no sense, for
    /// one of more than one key, and for one that asks for progress;
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn submit(&self, watch: impl Into<Watch>) -> Result<WatchKey> {
        let watch = watch.into();
        let refuse = |reason| {
            let about = Operation::about("watch", watch.keys());
            Err(Error::invalid(reason).operation(about))
        };
        if !watch.range.range_end().is_empty() {
            return refuse("a latest set watches single keys: use a watch set for a range");
        }
        if watch.progress {
            return refuse("a latest set delivers no progress: use a watch set");
        }
        let (host, parts) = (&self.host, &self.parts);
        let registry = host.registry();
        let id = registry.next_id();
        parts.shared.slots.lock().add(id, Instant::now());
        let sink = Sink::Set(parts.number);
        let added = registry.submit(host.bridge(), id, host.confine(watch), sink, None);
        if let Err(error) = added {
            parts.shared.slots.lock().remove(id);
            return Err(error);
        }
        Ok(WatchKey::of(id))
    }

    /// Removes a watch: cancels it on the server, without blocking. Nothing more comes of it.
    ///
    /// Returns whether it was there: not yet removed, and not ended by an error that was taken.
    pub fn remove(&self, key: WatchKey) -> bool {
        let was_there = self.parts.shared.slots.lock().remove(key.id());
        if was_there {
            // A task that is gone has no watches.
            let _ = self.parts.task.send(Command::Remove(key.id()));
        }
        was_there
    }

    /// A token arrives here when there is something new: something to [`take`](LatestSet::take), or
    /// a watch that the server lost or has again. No other comes before `take` is called.
    pub fn receiver(&self) -> &Receiver<()> {
        &self.parts.receiver
    }

    /// Takes the newest event of each watch that had one since the last call. It does not block.
    ///
    /// An `Err` is the last item of its watch, and stands in for an event of it that was not taken.
    /// The end of the client is an `Err` under [`WatchKey::SET`], after which nothing comes.
    pub fn take(&self) -> Vec<(WatchKey, Result<Event>)> {
        let mut slots = self.parts.shared.slots.lock();
        let _ = self.parts.receiver.try_recv();
        slots.take()
    }

    /// Counts how often watches waited for a new stream until the server had all of them: because they
    /// lost theirs, or because none was open when they were added.
    ///
    /// Such a watch misses no event of the store it knew. But the server may have been replaced
    /// meanwhile: a reader who keeps something in etcd looks whether it is there when this number has
    /// grown.
    pub fn generation(&self) -> u64 {
        self.parts.shared.slots.lock().generation()
    }

    /// Since when the server does not have this watch: since it was added, or since its stream was
    /// lost. `None` while the server has it.
    pub fn unwatched_since(&self, key: WatchKey) -> Option<Instant> {
        self.parts.shared.slots.lock().unwatched_since(key.id())
    }

    /// The earliest [`unwatched_since`](LatestSet::unwatched_since) of all watches.
    pub fn oldest_unwatched(&self) -> Option<Instant> {
        self.parts.shared.slots.lock().oldest_unwatched()
    }

    /// The watches that the server does not have since before `time`.
    pub fn unwatched_before(&self, time: Instant) -> Vec<WatchKey> {
        self.parts.shared.slots.lock().unwatched_before(time)
    }
}

impl Drop for LatestSet {
    fn drop(&mut self) {
        let number = self.parts.number;
        let _ = self.parts.task.send(Command::RemoveSet(number));
    }
}

/// The task's half of a latest set. Dropped, it tells the reader that the client has ended.
#[derive(Debug)]
pub(super) struct Feed(Arc<Shared>);

impl Feed {
    /// A feed, and what its reader holds.
    pub(super) fn new() -> (Self, Arc<Shared>, Receiver<()>) {
        let (wake, receiver) = bounded(1);
        let shared = Arc::new(Shared {
            slots: Mutex::default(),
            wake,
        });
        (Feed(Arc::clone(&shared)), shared, receiver)
    }

    pub(super) fn deliver(&self, id: Id, response: WatchResponse) {
        if let Some(event) = response.into_events().pop() {
            self.0.slots.lock().deliver(id, event);
        }
    }

    pub(super) fn finish(&self, id: Id, error: Error) {
        self.0.slots.lock().finish(id, error);
    }

    /// The server has the watch, or lost it.
    pub(super) fn note(&self, id: Id, is_down: bool) {
        let mut slots = self.0.slots.lock();
        match is_down {
            true => slots.lose(id, Instant::now()),
            false => slots.watched(id),
        }
    }

    /// A new stream was opened.
    pub(super) fn stream_opened(&self) {
        self.0.slots.lock().stream_opened();
    }

    /// Wakes the reader if something changed that it was not woken for.
    pub(super) fn wake(&self) {
        let slots = self.0.slots.lock();
        if slots.has_news() {
            // A token that waits there already says the same.
            let _ = self.0.wake.try_send(());
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.slots.lock().end(Error::abandoned());
        self.wake();
    }
}

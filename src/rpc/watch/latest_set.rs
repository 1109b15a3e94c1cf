//! Watches of which only the newest event is kept.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::event::Event;
use super::latest_feed::{LatestFeed, SharedSlots};
use super::set_delivery::SetDelivery;
use super::set_guard::SetGuard;
use super::watch_context::WatchContext;
use super::watch_key::WatchKey;
use super::watch_request::Watch;
use crate::error::{Error, Operation, Result};
use crate::runtime::Spawn;

/// Follows the newest event of many keys, each with a watch of its own.
///
/// Made by [`Client::latest_set`](crate::Client::latest_set). It is for readers that need only the
/// present state: an event that was not taken yet is replaced by the next one of its key. The set
/// holds at most one event per watch and is never full, so a slow reader never pauses a watch on the
/// server. A [`WatchSet`](crate::watch::WatchSet) delivers every event instead. A watch of a range keeps
/// the newest event of all its keys, which shows that something changed and must be read.
///
/// The reader waits on [`receiver`](LatestSet::receiver) and then calls [`take`](LatestSet::take).
/// An `Err` ends the watch that it names, and not the set.
///
/// Dropping the set cancels all its watches, without blocking. The set keeps its client alive.
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
    guard: SetGuard,
    shared: Arc<SharedSlots>,
    receiver: Receiver<()>,
    context: Box<dyn WatchContext>,
}

impl LatestSet {
    /// Adds an empty set to the client's watches. `spawn` starts the watch task if there is none.
    pub(crate) fn open(context: Box<dyn WatchContext>, spawn: &impl Spawn) -> Result<Self> {
        let (feed, shared, receiver) = LatestFeed::new();
        let delivery = SetDelivery::Latest(feed);
        let guard = context.registry().add_set(spawn, delivery)?;
        Ok(LatestSet {
            guard,
            shared,
            receiver,
            context,
        })
    }

    /// Adds a watch of one key and returns at once.
    ///
    /// If the server refuses the watch, that error is its only item. A watch without a start
    /// revision receives what is written after the server has created it.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid watch, and for one that
    /// asks for progress; [`Closed`](crate::ErrorKind::Closed).
    pub fn submit(&self, watch: impl Into<Watch>) -> Result<WatchKey> {
        let watch = watch.into();
        let refuse = |reason| {
            let about = Operation::about("watch", watch.keys());
            Err(Error::invalid(reason).operation(about))
        };
        if watch.progress {
            return refuse("a latest set delivers no progress: use a watch set");
        }
        let context = &self.context;
        let registry = context.registry();
        let id = registry.next_id();
        self.shared.slots.lock().add(id, Instant::now());
        let watch = context.confine(watch);
        let added = registry.submit(context.bridge(), id, watch, self.guard.sink(), None);
        if let Err(error) = added {
            self.shared.slots.lock().remove(id);
            return Err(error);
        }
        Ok(WatchKey::of(id))
    }

    /// Removes a watch and cancels it on the server, without blocking. An event of it that was not
    /// taken is dropped.
    ///
    /// Returns `false` for a watch that was removed before, or whose last item was taken.
    pub fn remove(&self, key: WatchKey) -> bool {
        let existed = self.shared.slots.lock().remove(key.id());
        if existed {
            self.guard.remove(key.id());
        }
        existed
    }

    /// The channel that wakes the reader, for `select!`. It holds at most one token.
    ///
    /// A token arrives when there is something to [`take`](LatestSet::take), and when the server has
    /// lost a watch or has it again. The next one arrives only after `take` was called.
    pub fn receiver(&self) -> &Receiver<()> {
        &self.receiver
    }

    /// Wakes the waker once: now, if the [`receiver`](LatestSet::receiver) has a token, or else when it has.
    pub(crate) fn wake_when_ready(&self, waker: &Waker) {
        self.shared.wake_when_ready(waker);
    }

    /// Takes the newest event of each watch that had one since the last call. It does not block.
    ///
    /// An `Err` is the last item of its watch, and replaces an event that was not taken. When the
    /// client ends, the last item is an `Err` under [`WatchKey::SET`].
    pub fn take(&self) -> Vec<(WatchKey, Result<Event>)> {
        let mut slots = self.shared.slots.lock();
        let _ = self.receiver.try_recv();
        slots.take()
    }

    /// The number of times that watches of this set waited for a new stream and the server then
    /// created all of them: because their stream was lost, or because none was open when they were
    /// added.
    ///
    /// Such a watch misses no event of the store that it followed, but the server may have been
    /// replaced meanwhile. A reader that keeps data in etcd checks that it is still there when this
    /// number has grown.
    pub fn generation(&self) -> u64 {
        self.shared.slots.lock().generation()
    }

    /// The time since which the server does not have this watch: when it was added, or when its
    /// stream was lost. `None` while the server has it.
    pub fn unwatched_since(&self, key: WatchKey) -> Option<Instant> {
        self.shared.slots.lock().unwatched_since(key.id())
    }

    /// The earliest [`unwatched_since`](LatestSet::unwatched_since) of all watches.
    pub fn oldest_unwatched(&self) -> Option<Instant> {
        self.shared.slots.lock().oldest_unwatched()
    }

    /// The watches whose [`unwatched_since`](LatestSet::unwatched_since) is before `time`.
    pub fn unwatched_before(&self, time: Instant) -> Vec<WatchKey> {
        self.shared.slots.lock().unwatched_before(time)
    }
}

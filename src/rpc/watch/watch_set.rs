//! A set of watches that deliver into one channel.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::event::WatchResponse;
use super::pending_watch::all_created;
use super::set_delivery::{OpenWatches, SetDelivery};
use super::set_guard::SetGuard;
use super::watch_context::WatchContext;
use super::watch_guard::WatchGuard;
use super::watch_id::WatchId;
use super::watch_key::WatchKey;
use super::watch_request::Watch;
use crate::error::{Error, Result};
use crate::runtime::{BoundedReceiver, Spawn};
use crate::util::receive::receive_methods;

/// Many watches that deliver into one channel.
///
/// Made by [`Client::watch_set`](crate::Client::watch_set). The items of each watch have the
/// guarantees of a [`Watcher`](crate::Watcher); items of different watches have no order. An `Err`
/// ends the watch that it names, and not the set.
///
/// The whole set has one bound ([`watch_queue`](crate::ClientBuilder::watch_queue)). While the
/// channel is full, a watch that has events pauses on the server; it resumes without a gap.
///
/// Dropping the set cancels all its watches, without blocking. The set keeps its client alive.
///
/// ```no_run
/// # use etcd_blocking::{Client, Watch};
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let set = client.watch_set()?;
/// let keys = set.add_all((0..1000).map(|n| Watch::key(format!("job/{n}"))))?;
/// for (key, item) in set.receiver() {
///     let response = item?;
///     println!("{key:?}: {} changes", response.events().len());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct WatchSet {
    guard: SetGuard,
    items: BoundedReceiver<(WatchKey, Result<WatchResponse>)>,
    watches: OpenWatches,
    context: Box<dyn WatchContext>,
}

impl WatchSet {
    /// Adds an empty set to the client's watches. `spawn` starts the watch task if there is none.
    pub(crate) fn open(context: Box<dyn WatchContext>, spawn: &impl Spawn) -> Result<Self> {
        let registry = context.registry();
        let (bounded_sender, items) = registry.bounded_queue(|error| (WatchKey::SET, Err(error)));
        let watches = OpenWatches::default();
        let delivery = SetDelivery::All {
            bounded_sender,
            watched: Arc::clone(&watches),
        };
        let guard = registry.add_set(spawn, delivery)?;
        Ok(WatchSet {
            guard,
            items,
            watches,
            context,
        })
    }

    /// The channel of the items, for `select!`. Each item comes with the key of its watch.
    pub fn receiver(&self) -> &Receiver<(WatchKey, Result<WatchResponse>)> {
        self.items.receiver()
    }

    /// Returns the error under [`WatchKey::SET`], with which the set ended. `None` before that. It does not
    /// block.
    pub fn ended(&self) -> Option<Error> {
        self.items.ended()
    }

    /// Adds a watch. Blocks until the server has created it, at most for the client's timeout.
    ///
    /// # Errors
    ///
    /// As [`Client::watch`](crate::Client::watch).
    pub fn add(&self, watch: impl Into<Watch>) -> Result<WatchKey> {
        let mut keys = self.add_all([watch])?;
        Ok(keys.pop().unwrap_or(WatchKey::SET))
    }

    /// Adds many watches. Blocks until the server has created all of them, at most for the client's
    /// timeout.
    ///
    /// # Errors
    ///
    /// As [`Client::watch`](crate::Client::watch), for the first watch that fails. Then none of
    /// them is added.
    pub fn add_all(
        &self,
        watches: impl IntoIterator<Item = impl Into<Watch>>,
    ) -> Result<Vec<WatchKey>> {
        let mut ids = Vec::new();
        match self.add_each(watches, &mut ids) {
            Ok(guards) => {
                let released = guards.into_iter().map(WatchGuard::release);
                Ok(released.map(WatchKey::of).collect())
            }
            Err(error) => {
                // The dropped guards have cancelled the watches that were added before the failure.
                let mut watches = self.watches.lock();
                for id in ids {
                    watches.remove(&id);
                }
                Err(error)
            }
        }
    }

    fn add_each(
        &self,
        watches: impl IntoIterator<Item = impl Into<Watch>>,
        ids: &mut Vec<WatchId>,
    ) -> Result<Vec<WatchGuard>> {
        let (mut guards, mut pending) = (Vec::new(), Vec::new());
        let (context, registry) = (&self.context, self.context.registry());
        for watch in watches {
            let id = registry.next_id();
            ids.push(id);
            // Inserted before the task has the watch: the task removes it when the watch ends.
            self.watches.lock().insert(id);
            let watch = context.confine(watch.into());
            let (guard, created) = registry.add(context.bridge(), id, watch, self.guard.sink())?;
            guards.push(guard);
            pending.push(created);
        }
        // All creations are awaited together, within one timeout.
        let created = all_created(pending, self.guard.task().clone(), context.timeout());
        context.bridge().call(created)?;
        Ok(guards)
    }

    /// Adds a watch and returns at once. If the server refuses the watch, that error is its only
    /// item.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid watch, and
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn submit(&self, watch: impl Into<Watch>) -> Result<WatchKey> {
        let (context, registry) = (&self.context, self.context.registry());
        let id = registry.next_id();
        let watch = context.confine(watch.into());
        self.watches.lock().insert(id);
        let submitted = registry.submit(context.bridge(), id, watch, self.guard.sink(), None);
        if let Err(error) = submitted {
            self.watches.lock().remove(&id);
            return Err(error);
        }
        Ok(WatchKey::of(id))
    }

    /// Removes a watch and cancels it on the server, without blocking. Items of it that are in the
    /// channel stay there.
    ///
    /// Returns `false` for a watch that has ended or was removed before.
    pub fn remove(&self, key: WatchKey) -> bool {
        let existed = self.watches.lock().remove(&key.id());
        if existed {
            self.guard.remove(key.id());
        }
        existed
    }

    /// Asks the server for the progress of a watch, and returns at once: see
    /// [`Watcher::request_progress`](crate::Watcher::request_progress).
    pub fn request_progress(&self, key: WatchKey) {
        self.guard.request_progress(key.id());
    }
}

receive_methods!(WatchSet, (WatchKey, Result<WatchResponse>));

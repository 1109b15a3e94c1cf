//! Many watches into one channel.

use crossbeam_channel::Receiver;

use super::event::WatchResponse;
use super::request::Watch;
use super::sink::Sink;
use super::state::Id;
use super::watch_registry::{Command, Host, WatchGuard, WatchSetParts};
use crate::error::Result;
use crate::util::receive::receive_methods;

/// Names a watch of a [`WatchSet`] or of a [`LatestSet`](crate::watch::LatestSet).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchKey(Id);

impl WatchKey {
    /// Stands for the set itself, in the one item that is about all of it: the `Err` that comes last
    /// when the client is closed.
    pub const SET: WatchKey = WatchKey(0);

    pub(super) fn of(id: Id) -> Self {
        WatchKey(id)
    }

    pub(super) fn id(self) -> Id {
        self.0
    }
}

/// Many watches that are read from one channel.
///
/// Made by [`Client::watch_set`](crate::Client::watch_set). What is true of the items of a
/// [`Watcher`](crate::Watcher) is true of those of each watch here; there is no order between
/// watches. An `Err` ends the watch it names, and not the set.
///
/// The channel is bounded as a whole ([`watch_queue`](crate::ClientBuilder::watch_queue)): when it
/// is full, the watches that have something to say pause on the server, and resume without a gap.
///
/// Dropping the set cancels all its watches, without blocking. It keeps its client alive.
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
    host: Box<dyn Host>,
    parts: WatchSetParts,
}

impl WatchSet {
    pub(crate) fn new(host: Box<dyn Host>, parts: WatchSetParts) -> Self {
        WatchSet { host, parts }
    }

    /// The channel that items arrive on, each with the watch it belongs to.
    pub fn receiver(&self) -> &Receiver<(WatchKey, Result<WatchResponse>)> {
        &self.parts.receiver
    }

    /// Adds a watch. Blocks until the server has it, at most for the client's timeout.
    ///
    /// # Errors
    ///
    /// As [`Client::watch`](crate::Client::watch).
    pub fn add(&self, watch: impl Into<Watch>) -> Result<WatchKey> {
        let mut keys = self.add_all([watch])?;
        Ok(keys.pop().unwrap_or(WatchKey::SET))
    }

    /// Adds many watches. Blocks until the server has all of them, at most for the client's timeout.
    ///
    /// # Errors
    ///
    /// As [`Client::watch`](crate::Client::watch), for the first that fails; then none of them is
    /// added.
    pub fn add_all(
        &self,
        watches: impl IntoIterator<Item = impl Into<Watch>>,
    ) -> Result<Vec<WatchKey>> {
        let mut ids = Vec::new();
        match self.add_each(watches, &mut ids) {
            Ok(tickets) => Ok(tickets
                .into_iter()
                .map(|ticket| WatchKey(ticket.keep()))
                .collect()),
            Err(error) => {
                let mut watched = self.parts.watched.lock();
                for id in ids {
                    watched.remove(&id);
                }
                Err(error)
            }
        }
    }

    fn add_each(
        &self,
        watches: impl IntoIterator<Item = impl Into<Watch>>,
        ids: &mut Vec<Id>,
    ) -> Result<Vec<WatchGuard>> {
        let (mut tickets, mut waiting) = (Vec::new(), Vec::new());
        let registry = self.host.registry();
        for watch in watches {
            let (id, sink) = (registry.next_id(), Sink::Set(self.parts.number));
            ids.push(id);
            // First, so that a watch that ends takes itself out again.
            self.parts.watched.lock().insert(id);
            let watch = self.host.confine(watch.into());
            let (ticket, created) = registry.add(self.host.bridge(), id, watch, sink)?;
            tickets.push(ticket);
            waiting.push(created);
        }
        let created = super::watch_registry::all_created(
            waiting,
            self.parts.task.clone(),
            self.host.timeout(),
        );
        self.host.bridge().call(created)?;
        Ok(tickets)
    }

    /// Adds a watch and returns at once. What `add` would return as an error arrives as the only
    /// item of this watch.
    ///
    /// # Errors
    ///
    /// Of the kind [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a watch that makes no
    /// sense, and [`Closed`](crate::ErrorKind::Closed).
    pub fn submit(&self, watch: impl Into<Watch>) -> Result<WatchKey> {
        let sink = Sink::Set(self.parts.number);
        let (registry, id) = (self.host.registry(), self.host.registry().next_id());
        let watch = self.host.confine(watch.into());
        self.parts.watched.lock().insert(id);
        let submitted = registry.submit(self.host.bridge(), id, watch, sink, None);
        if let Err(error) = submitted {
            self.parts.watched.lock().remove(&id);
            return Err(error);
        }
        Ok(WatchKey(id))
    }

    /// Removes a watch: cancels it on the server, without blocking. Items of it that wait in the
    /// channel stay there.
    ///
    /// Returns whether it was there: `false` for a watch that has ended or was removed before.
    pub fn remove(&self, key: WatchKey) -> bool {
        let was_there = self.parts.watched.lock().remove(&key.0);
        if was_there {
            // A task that is gone has no watches.
            let _ = self.parts.task.send(Command::Remove(key.0));
        }
        was_there
    }

    /// Asks the server how far a watch is: see
    /// [`Watcher::request_progress`](crate::Watcher::request_progress).
    pub fn request_progress(&self, key: WatchKey) {
        let _ = self.parts.task.send(Command::Progress(key.0));
    }
}

receive_methods!(WatchSet, (WatchKey, Result<WatchResponse>));

impl Drop for WatchSet {
    fn drop(&mut self) {
        let _ = self.parts.task.send(Command::RemoveSet(self.parts.number));
    }
}

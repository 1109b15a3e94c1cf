//! What the owner of a mirror holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;

use super::event::MirrorEvent;
use super::picture::Snapshot;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::KeyRange;
use crate::types::Revision;

/// A range of keys, kept in memory as etcd has it.
///
/// It lists the range at one revision and watches from the next. When history is gone (compacted
/// while it was cut off, or lost by the store) it lists again and tells the exact difference as one
/// [`Reset`](MirrorEvent::Reset); what it shows is never empty in between. While etcd is away it
/// keeps what it has and says since when that may be old.
///
/// Reading [`changes`](Mirror::changes) is optional: a queue that nobody reads is bounded, and a
/// slow reader gets one `Reset` for everything that it missed. Dropping the mirror ends it, without
/// blocking.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, KeyRange};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let flags = client.mirror(KeyRange::prefix("flags/"))?;
/// let put = client.put("flags/dark", "on")?;
/// // Read your own write, from memory.
/// flags.wait_revision(put.revision(), Duration::from_secs(1))?;
/// assert!(flags.snapshot().get(b"flags/dark").is_some());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Mirror {
    pub(super) range: KeyRange,
    pub(super) shared: Arc<Shared>,
    pub(super) changes: Receiver<Result<MirrorEvent>>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
}

/// What a mirror's task is told; it ends when nobody can tell it anything any more.
#[derive(Debug)]
pub(super) enum Command {
    /// Somebody waits for a revision: ask the server how far the watch is.
    Progress,
}

/// What the task and the handle share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    snapshot: Snapshot,
    stale_since: Option<Instant>,
    ended: Option<Error>,
}

/// How often a waiter asks the server how far it is: a server does not answer while it is catching up.
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Mirror {
    /// The keys it mirrors.
    pub fn keys(&self) -> &KeyRange {
        &self.range
    }

    /// The keys as the mirror has them now. It does not block and does not ask etcd.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// What happens, from an empty map on: the first item is a [`Reset`](MirrorEvent::Reset) with
    /// everything.
    ///
    /// An `Err` is the last item and says why the mirror ended: the client was closed, or may not
    /// read the range any more.
    pub fn changes(&self) -> &Receiver<Result<MirrorEvent>> {
        &self.changes
    }

    /// For how long the mirror may have been behind; `None` while it follows.
    pub fn staleness(&self) -> Option<Duration> {
        self.shared
            .state
            .lock()
            .stale_since
            .map(|since| since.elapsed())
    }

    /// Why the mirror ended, if it has: what it shows stays, and will never change again.
    pub fn ended(&self) -> Option<Error> {
        self.shared.state.lock().ended.clone()
    }

    /// Blocks until the mirror has everything up to `revision`: what was written by then is in the
    /// [`snapshot`](Mirror::snapshot), also when no key of the range changed.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when it takes longer than `timeout`; why the mirror ended,
    /// if it has.
    pub fn wait_revision(&self, revision: Revision, timeout: Duration) -> Result<Snapshot> {
        let begun = Instant::now();
        let mut state = self.shared.state.lock();
        loop {
            if state.snapshot.revision() >= revision {
                return Ok(state.snapshot.clone());
            }
            let about = || Operation::about("wait for revision", revision);
            if let Some(ended) = &state.ended {
                return Err(ended.clone().operation(about()));
            }
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let reason = format!(
                    "the mirror of {} is at revision {} after {timeout:?}",
                    self.range,
                    state.snapshot.revision()
                );
                return Err(Error::new(ErrorKind::Timeout, reason).operation(about()));
            }
            // A task that is gone has left its reason in `ended`.
            let _ = self.commands.send(Command::Progress);
            self.shared
                .changed
                .wait_for(&mut state, left.min(ASK_AGAIN));
        }
    }
}

impl Shared {
    pub(super) fn snapshot(&self) -> Snapshot {
        self.state.lock().snapshot.clone()
    }

    pub(super) fn revision(&self) -> Revision {
        self.state.lock().snapshot.revision()
    }

    /// Changes the picture in place: it is copied only while somebody holds a snapshot of it.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        let changed = change(&mut self.state.lock().snapshot);
        self.changed.notify_all();
        changed
    }

    pub(super) fn set_stale(&self, since: Option<Instant>) {
        self.state.lock().stale_since = since;
    }

    /// The first reason stays.
    pub(super) fn end(&self, why: Error) {
        let mut state = self.state.lock();
        state.ended.get_or_insert(why);
        state.stale_since.get_or_insert_with(Instant::now);
        drop(state);
        self.changed.notify_all();
    }
}

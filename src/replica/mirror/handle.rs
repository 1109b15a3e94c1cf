//! What the owner of a mirror holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;

use super::contents::Snapshot;
use super::event::MirrorEvent;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::types::Revision;
use crate::types::key_range::KeyRange;

/// A range of keys, kept in memory as etcd has it.
///
/// It lists the range at one revision and watches from the next. When history is gone (compacted
/// while it was cut off, or lost by the store) it lists again and tells the exact difference as one
/// [`Reset`](MirrorEvent::Reset); what it shows is never empty in between. While etcd is away it
/// keeps what it has and says since when that may be old.
///
/// Only its owner ends a mirror, by dropping it or by closing the client. Whatever else happens, such as
/// an outage or a permission that is withdrawn, makes it [stale](Mirror::staleness) with a
/// [reason](Mirror::last_error), and it tries again until it works.
///
/// Reading [`changes`](Mirror::changes) is optional, and costs nothing until it is called for the first
/// time. The queue is bounded; a slow reader gets one `Reset` for everything that it missed. Dropping the
/// mirror does not block.
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
    /// Somebody reads the changes: see whether there is room for what was held back.
    Read,
}

/// What the task and the handle share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Somebody asked for the changes: they are queued from then on.
    wanted: AtomicBool,
    /// Changes are held back, and the task was not told yet that somebody reads.
    held_back: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    snapshot: Snapshot,
    /// The epoch of the store that was listed.
    epoch: u64,
    /// The queue of changes has everything up to this revision.
    queued: Revision,
    stale: Option<Stale>,
    ended: Option<Error>,
}

#[derive(Clone, Debug)]
struct Stale {
    since: Instant,
    reason: Error,
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
    /// everything that there is when this is called for the first time.
    ///
    /// An `Err` is the last item and says why the mirror ended: the client was closed.
    pub fn changes(&self) -> &Receiver<Result<MirrorEvent>> {
        if self.shared.want() {
            // A task that is gone has left its reason in the channel.
            let _ = self.commands.send(Command::Read);
        }
        &self.changes
    }

    /// For how long the mirror may have been behind; `None` while it follows.
    pub fn staleness(&self) -> Option<Duration> {
        let state = self.shared.state.lock();
        state.stale.as_ref().map(|stale| stale.since.elapsed())
    }

    /// Why the mirror is [stale](Mirror::staleness), as far as it is known; `None` while it follows. It
    /// does not block.
    pub fn last_error(&self) -> Option<Error> {
        let state = self.shared.state.lock();
        state.stale.as_ref().map(|stale| stale.reason.clone())
    }

    /// Why the mirror ended, if it has: the client was closed. What it shows stays, and will never change
    /// again.
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
        let reached = |state: &State| state.snapshot.revision() >= revision;
        self.wait(revision, timeout, reached)
    }

    /// Blocks until everything up to `revision` is in the queue of [`changes`](Mirror::changes), or was
    /// read from it.
    pub(crate) fn wait_queued(&self, revision: Revision, timeout: Duration) -> Result<()> {
        let queued = |state: &State| state.queued >= revision;
        self.wait(revision, timeout, queued).map(drop)
    }

    /// Up to which revision everything is in the queue of changes, or was read from it. A reader that
    /// looks at this first, and then takes all that is there, knows everything up to this revision.
    pub(crate) fn queued(&self) -> Revision {
        self.shared.state.lock().queued
    }

    fn wait(
        &self,
        revision: Revision,
        timeout: Duration,
        done: impl Fn(&State) -> bool,
    ) -> Result<Snapshot> {
        let begun = Instant::now();
        let mut state = self.shared.state.lock();
        loop {
            if done(&state) {
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

    /// The revision of the contents, and the epoch of the store that it belongs to.
    pub(super) fn position(&self) -> (Revision, u64) {
        let state = self.state.lock();
        (state.snapshot.revision(), state.epoch)
    }

    pub(super) fn set_epoch(&self, epoch: u64) {
        self.state.lock().epoch = epoch;
    }

    /// Somebody asks for the changes. Says whether the task must be told.
    pub(super) fn want(&self) -> bool {
        let first = !self.is_wanted() && !self.wanted.swap(true, SeqCst);
        first || self.held_back.load(SeqCst) && self.held_back.swap(false, SeqCst)
    }

    /// Whether anybody ever asked for the changes.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(SeqCst)
    }

    /// The queue has everything up to `revision`.
    pub(super) fn set_queued(&self, revision: Revision) {
        self.state.lock().queued = revision;
        self.changed.notify_all();
    }

    /// Changes are held back: the next call of `changes()` tells the task.
    pub(super) fn hold_back(&self) {
        self.held_back.store(true, SeqCst);
    }

    /// Changes the picture in place: it is copied only while somebody holds a snapshot of it.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        let changed = change(&mut self.state.lock().snapshot);
        self.changed.notify_all();
        changed
    }

    pub(super) fn set_live(&self) {
        self.state.lock().stale = None;
    }

    /// The contents may be old since `since`; the reason is the newest.
    pub(super) fn set_stale(&self, since: Instant, reason: Error) {
        self.state.lock().stale = Some(Stale { since, reason });
    }

    /// The first reason stays.
    pub(super) fn end(&self, why: Error) {
        let mut state = self.state.lock();
        let reason = state.ended.get_or_insert(why).clone();
        let since = Instant::now();
        state.stale.get_or_insert(Stale { since, reason });
        drop(state);
        self.changed.notify_all();
    }
}

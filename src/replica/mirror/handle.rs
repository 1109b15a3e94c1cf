//! Handle of a mirror, and the state that it shares with the mirror's task.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use parking_lot::{Condvar, Mutex};

use super::contents::Snapshot;
use super::event::MirrorEvent;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::SharedStoreIdentity;
use crate::runtime::BoundedReceiver;
use crate::types::Revision;
use crate::types::key_range::KeyRange;
use crate::util::atomic::{AtomicBool, Ordering::SeqCst};

/// In-memory replica of a key range, kept up to date by a watch.
///
/// It lists the range at one revision and watches from the next one. When history is lost (compacted while
/// the mirror was disconnected, or lost by the store) it lists again and reports the exact difference as one
/// [`Reset`](MirrorEvent::Reset); the contents are never empty in between. While etcd is unavailable it keeps
/// its contents and reports for how long they may have been stale.
///
/// A mirror ends only when it is dropped or the client is closed. Any other failure, such as an outage or a
/// revoked permission, makes it [stale](Mirror::staleness) with a [reason](Mirror::last_error), and it retries
/// until it succeeds.
///
/// Reading [`changes`](Mirror::changes) is optional; nothing is queued before its first call. The queue is
/// bounded; a slow reader gets one `Reset` for all changes that did not fit. Dropping the mirror does not
/// block.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, KeyRange};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let flags = client.mirror(KeyRange::prefix("flags/"))?;
/// let put = client.put("flags/dark", "on")?;
/// // Read your own write from memory.
/// flags.wait_revision(put.revision(), Duration::from_secs(1))?;
/// assert!(flags.snapshot().get(b"flags/dark").is_some());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Mirror {
    pub(super) range: KeyRange,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<SharedStoreIdentity>,
    pub(super) changes: BoundedReceiver<Result<MirrorEvent>>,
}

/// Requests of the handle to the task.
#[derive(Debug, Default)]
struct Requests {
    progress: bool,
    read: bool,
    /// Why the contents are wrong.
    wrong: Option<Error>,
    dropped: bool,
    /// The waker of the task.
    waker: Option<Waker>,
}

/// A request of the handle to the task.
#[derive(Clone, Debug)]
pub(super) enum MirrorRequest {
    /// A caller waits for a revision: request the progress of the watch.
    Progress,
    /// A caller reads the changes: queue what was held back, if there is room.
    Read,
    /// The contents are wrong, for this reason: list again.
    List(Error),
    /// The handle was dropped.
    Drop,
}

/// State shared by the task and the handle.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    requests: Mutex<Requests>,
    /// Set by the first call of `changes()`: changes are queued from then on.
    requested: AtomicBool,
    /// Set if the reader needs no changes in a `Reset`.
    without_differences: AtomicBool,
    /// Set while changes are held back and the task was not notified of a reader.
    held_back: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    snapshot: Snapshot,
    /// The epoch of the listed store.
    epoch: u64,
    /// The revision up to which the queue has every change.
    queued: Revision,
    stale: Option<Stale>,
    ended: Option<Error>,
}

impl State {
    fn position(&self) -> (u64, Revision) {
        (self.epoch, self.snapshot.revision())
    }
}

#[derive(Clone, Debug)]
struct Stale {
    since: Instant,
    reason: Error,
}

/// Interval at which a waiter requests watch progress: etcd ignores such a request while the watch is not
/// synchronised.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

impl Mirror {
    /// The mirrored key range.
    pub fn keys(&self) -> &KeyRange {
        &self.range
    }

    /// The current contents. Does not block and sends no request.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// The channel of all changes. The first item is a [`Reset`](MirrorEvent::Reset) from an empty map to the
    /// contents at the first call of this method.
    ///
    /// An `Err` is the last item, sent when the client is closed. Does not block.
    pub fn changes(&self) -> &Receiver<Result<MirrorEvent>> {
        self.request_changes();
        self.changes.receiver()
    }

    /// Queues changes from now on, if it is the first request.
    pub(crate) fn request_changes(&self) {
        if self.shared.request_changes() {
            self.shared.request(MirrorRequest::Read);
        }
    }

    /// Queues changes from now on, for a reader that reads the contents after each `Reset`: its changes are left out.
    pub(crate) fn request_changes_without_differences(&self) {
        self.shared.leave_out_differences();
        self.request_changes();
    }

    /// Takes the next change without creating a channel.
    pub(crate) fn try_next(&self) -> std::result::Result<Result<MirrorEvent>, TryRecvError> {
        self.request_changes();
        self.changes.try_recv()
    }

    /// Asks the watch for its progress, which advances the revision of the contents. Does not block.
    pub(crate) fn request_progress(&self) {
        self.shared.request(MirrorRequest::Progress);
    }

    /// Lists again, because the contents are wrong for this reason. Does not block. The mirror is stale until
    /// the list is complete, and reports the difference.
    pub(crate) fn list_again(&self, why: Error) {
        self.shared.request(MirrorRequest::List(why));
    }

    /// Wakes the waker when [`try_next`](Mirror::try_next) would return an item.
    pub(crate) fn wake_when_ready(&self, waker: &Waker) {
        self.changes.wake_when_ready(waker);
    }

    /// The time for which the contents may have been stale; `None` while the watch is live. Does not block.
    pub fn staleness(&self) -> Option<Duration> {
        let state = self.shared.state.lock();
        state.stale.as_ref().map(|stale| stale.since.elapsed())
    }

    /// The newest reason why the mirror is [stale](Mirror::staleness); `None` while the watch is live. Does
    /// not block.
    pub fn last_error(&self) -> Option<Error> {
        let state = self.shared.state.lock();
        state.stale.as_ref().map(|stale| stale.reason.clone())
    }

    /// The reason why the mirror has ended: the client was closed. `None` before that. The contents stay,
    /// and no longer change.
    pub fn ended(&self) -> Option<Error> {
        self.shared.state.lock().ended.clone()
    }

    /// Blocks until the contents include every write up to `revision`, for `timeout` at most, and returns the
    /// [`snapshot`](Mirror::snapshot).
    ///
    /// It also returns when `revision` changed no key of the range.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when it takes longer than `timeout`; the reason of the end when the
    /// mirror has ended.
    pub fn wait_revision(&self, revision: Revision, timeout: Duration) -> Result<Snapshot> {
        self.wait_position((self.store_epoch(), revision), timeout)
    }

    /// The epoch of the store that answered last. Contents of an earlier epoch are those of a lost store.
    pub(crate) fn store_epoch(&self) -> u64 {
        self.store.epoch()
    }

    /// Returns whether the contents have this revision of the store with this epoch, or are of a later store.
    pub(crate) fn has_reached(&self, position: (u64, Revision)) -> bool {
        self.shared.state.lock().position() >= position
    }

    /// Blocks until [`has_reached`](Mirror::has_reached), for `timeout` at most, and returns the contents.
    pub(crate) fn wait_position(
        &self,
        position: (u64, Revision),
        timeout: Duration,
    ) -> Result<Snapshot> {
        self.wait(position, timeout, |state| state.snapshot.revision())
    }

    /// The current contents, and the epoch of their store.
    pub(crate) fn contents(&self) -> (Snapshot, u64) {
        let state = self.shared.state.lock();
        (state.snapshot.clone(), state.epoch)
    }

    /// Blocks until every change up to `revision` was put in the queue of [`changes`](Mirror::changes).
    pub(crate) fn wait_queued(&self, revision: Revision, timeout: Duration) -> Result<()> {
        let position = (self.store_epoch(), revision);
        self.wait(position, timeout, |state| state.queued).map(drop)
    }

    /// The revision up to which every change was put in the queue. A reader that first calls this, and then
    /// takes all queued items, has every change up to this revision.
    pub(crate) fn queued(&self) -> Revision {
        self.shared.state.lock().queued
    }

    /// Waits for an epoch and a revision. Revisions alone are not compared: those of a lost store may be higher.
    fn wait(
        &self,
        position: (u64, Revision),
        timeout: Duration,
        reached: impl Fn(&State) -> Revision,
    ) -> Result<Snapshot> {
        let begun = Instant::now();
        let revision = position.1;
        let done = |state: &State| (state.epoch, reached(state)) >= position;
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
            self.shared.request(MirrorRequest::Progress);
            self.shared
                .changed
                .wait_for(&mut state, left.min(PROGRESS_INTERVAL));
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.request(MirrorRequest::Drop);
    }
}

impl Shared {
    /// Sends a request to the task. A task that has ended has put its reason in `ended` and in the queue.
    fn request(&self, request: MirrorRequest) {
        let mut requests = self.requests.lock();
        match request {
            MirrorRequest::Progress => requests.progress = true,
            MirrorRequest::Read => requests.read = true,
            MirrorRequest::List(why) => requests.wrong = Some(why),
            MirrorRequest::Drop => requests.dropped = true,
        }
        let waker = requests.waker.take();
        drop(requests);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Polls for a request. Several requests of one kind are returned as one.
    pub(super) fn poll_request(&self, cx: &mut Context<'_>) -> Poll<MirrorRequest> {
        let mut requests = self.requests.lock();
        if requests.dropped {
            Poll::Ready(MirrorRequest::Drop)
        } else if let Some(why) = requests.wrong.take() {
            Poll::Ready(MirrorRequest::List(why))
        } else if std::mem::take(&mut requests.read) {
            Poll::Ready(MirrorRequest::Read)
        } else if std::mem::take(&mut requests.progress) {
            Poll::Ready(MirrorRequest::Progress)
        } else {
            requests.waker = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    /// Returns whether the handle was dropped.
    pub(super) fn is_dropped(&self) -> bool {
        self.requests.lock().dropped
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.state.lock().snapshot.clone()
    }

    /// The revision of the contents and the epoch of its store.
    pub(super) fn position(&self) -> (Revision, u64) {
        let state = self.state.lock();
        (state.snapshot.revision(), state.epoch)
    }

    /// Records that the changes are read. Returns whether the task must be notified.
    pub(super) fn request_changes(&self) -> bool {
        let first = !self.changes_requested() && !self.requested.swap(true, SeqCst);
        first || self.held_back.load(SeqCst) && self.held_back.swap(false, SeqCst)
    }

    /// Returns whether the changes were ever requested.
    pub(super) fn changes_requested(&self) -> bool {
        self.requested.load(SeqCst)
    }

    /// Records that the reader needs no changes in a `Reset`.
    pub(super) fn leave_out_differences(&self) {
        self.without_differences.store(true, SeqCst);
    }

    /// Returns whether the reader needs the changes in a `Reset`.
    pub(super) fn needs_differences(&self) -> bool {
        !self.without_differences.load(SeqCst)
    }

    /// Records that the queue has every change up to `revision`.
    pub(super) fn set_queued(&self, revision: Revision) {
        self.state.lock().queued = revision;
        self.changed.notify_all();
    }

    /// Records that changes are held back: the next call of `changes()` notifies the task.
    pub(super) fn hold_back(&self) {
        self.held_back.store(true, SeqCst);
    }

    /// Changes the contents; what a snapshot of them shares is copied.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        let changed = change(&mut self.state.lock().snapshot);
        self.changed.notify_all();
        changed
    }

    /// Replaces the contents with those of the store of `epoch`, and returns the former ones.
    pub(super) fn replace(&self, contents: Snapshot, epoch: u64) -> Snapshot {
        let mut state = self.state.lock();
        let replaced = std::mem::replace(&mut state.snapshot, contents);
        if state.epoch != epoch {
            // What was queued up to now is of another store, whose revisions may be higher.
            state.queued = Revision::NONE;
            state.epoch = epoch;
        }
        drop(state);
        self.changed.notify_all();
        replaced
    }

    pub(super) fn set_live(&self) {
        self.state.lock().stale = None;
    }

    /// Marks the contents as stale since `since`, with the newest reason.
    pub(super) fn set_stale(&self, since: Instant, reason: Error) {
        self.state.lock().stale = Some(Stale { since, reason });
    }

    /// Records the end; the first reason is kept.
    pub(super) fn end(&self, why: Error) {
        let mut state = self.state.lock();
        let reason = state.ended.get_or_insert(why).clone();
        let since = Instant::now();
        state.stale.get_or_insert(Stale { since, reason });
        drop(state);
        self.changed.notify_all();
    }
}

//! Bounded queue of the changes of a mirror; on overflow it collapses to one `Reset`.
//!
//! The difference of a `Reset` takes time in proportion to the number of keys. It is found in steps, between which other
//! tasks of the runtime run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contents::Snapshot;
use super::event::{KeyChange, MirrorEvent, ResetCause};
use super::handle::Shared;
use super::key_tree::{Difference, Found, Remains};
use super::list::List;
use crate::error::{Error, Result};
use crate::rpc::watch::{Event, WatchResponse};
use crate::runtime::BoundedSender;
use crate::types::{KeyValue, Revision};

/// Bounds of the interval at which a full queue is polled for room: a crossbeam channel does not signal when
/// a reader takes an item. The interval doubles while the reader takes nothing, and a call of
/// `Mirror::changes` resets it.
const MIN_POLL: Duration = Duration::from_millis(20);
const MAX_POLL: Duration = Duration::from_secs(5);

/// The number of keys that are compared in one step. A step takes some 100 µs.
const STEP: usize = if cfg!(test) { 3 } else { 1024 };

/// Sending end of [`Mirror::changes`](super::Mirror::changes), and writer of the mirror's contents.
pub(super) struct MirrorChangeQueue {
    bounded_sender: BoundedSender<Result<MirrorEvent>>,
    shared: Arc<Shared>,
    /// The contents that all queued events lead to, while the reader still needs a `Reset` from there: empty
    /// until the changes are requested for the first time, and set when the queue overflows. `None` while
    /// the queue has every change.
    reported: Option<Snapshot>,
    /// The cause of the next `Reset`.
    cause: ResetCause,
    /// The `Reset` whose difference is being found. Until it is queued, nothing else is.
    resetting: Option<Box<Resetting>>,
    /// Contents that are no longer needed, until the task frees them.
    unneeded: Vec<Remains>,
    /// The time since which the mirror is stale.
    stale: Option<Instant>,
    /// The value of `stale` in the last queued event.
    reported_stale: Option<Instant>,
    /// The interval until the next poll of a full queue.
    poll_interval: Duration,
    /// The number of unread items at the last poll.
    waiting: usize,
}

#[derive(Debug)]
struct Resetting {
    revision: Revision,
    difference: Difference,
}

impl MirrorChangeQueue {
    pub(super) fn new(
        bounded_sender: BoundedSender<Result<MirrorEvent>>,
        shared: Arc<Shared>,
    ) -> Self {
        MirrorChangeQueue {
            bounded_sender,
            shared,
            reported: Some(Snapshot::default()),
            cause: ResetCause::First,
            resetting: None,
            unneeded: Vec::new(),
            stale: None,
            reported_stale: None,
            poll_interval: MIN_POLL,
            waiting: 0,
        }
    }

    /// The time until the next [`poll`](MirrorChangeQueue::poll); `None` while no change is held back, or until the
    /// changes are requested for the first time.
    pub(super) fn next_poll(&self) -> Option<Duration> {
        let held_back = self.reported.is_some() && self.shared.changes_requested();
        held_back.then_some(self.poll_interval)
    }

    /// Returns whether a `Reset` is pending.
    #[cfg(test)]
    pub(super) fn is_behind(&self) -> bool {
        self.reported.is_some() || self.resetting.is_some()
    }

    /// Returns whether the difference of a `Reset` is being found.
    pub(super) fn is_resetting(&self) -> bool {
        self.resetting.is_some()
    }

    /// Does one step of finding a difference, and queues the `Reset` after the last one.
    pub(super) fn step(&mut self) {
        let Some(resetting) = &mut self.resetting else {
            return;
        };
        if let Some(found) = resetting.difference.step(STEP) {
            let Found { changes, size, old } = found;
            let revision = resetting.revision;
            self.resetting = None;
            self.unneeded.push(old);
            self.queue_reset(revision, changes, size);
        }
    }

    /// Takes the contents that are no longer needed.
    pub(super) fn take_unneeded(&mut self) -> impl Iterator<Item = Remains> + use<> {
        std::mem::take(&mut self.unneeded).into_iter()
    }

    /// Finds the rest of a difference at once, for a caller that changes what is compared or queues something.
    fn finish_reset(&mut self) {
        while self.is_resetting() {
            self.step();
        }
    }

    /// Applies the events of a watch response to the contents and queues them.
    pub(super) fn apply(&mut self, response: &WatchResponse) {
        self.finish_reset();
        let events = response.events();
        let Some(last) = events.last() else {
            self.shared
                .update(|snapshot| snapshot.advance(response.revision()));
            return self.publish_queued();
        };
        // Twice the size of the event: a change also contains the previous key value.
        let size = |event: &Event| {
            2 * (size_of::<KeyValue>() + event.kv().key().len() + event.kv().value().len())
        };
        self.reserve(events.iter().map(size).sum());
        let revision = last.revision();
        let changes = self
            .shared
            .update(|snapshot| snapshot.apply(events, revision));
        let size = changes.iter().map(KeyChange::size).sum();
        self.queue(MirrorEvent::Changed { revision, changes }, size);
        self.publish_queued();
    }

    /// Replaces the contents with a list of the store of `epoch`, and begins to queue the difference.
    pub(super) fn reset(&mut self, list: List) {
        self.finish_reset();
        let epoch = list.epoch;
        let (_, before) = self.shared.position();
        let cause = match epoch == before {
            true => ResetCause::Relisted,
            false => ResetCause::Rewound,
        };
        self.cause = match self.reported {
            // No event was queued yet, so the reader has lost nothing.
            Some(_) if !self.shared.changes_requested() || self.is_empty() => ResetCause::First,
            Some(_) => self.cause.max(cause),
            // The changes were requested before the first list.
            None if self.is_empty() => ResetCause::First,
            None => cause,
        };
        // The older snapshot is kept if a `Reset` is pending: the reader has not received what
        // followed it.
        self.reported.get_or_insert_with(|| self.shared.snapshot());
        let replaced = self.shared.replace(list.contents, epoch);
        self.unneeded.push(replaced.into_remains());
        self.catch_up();
    }

    /// Returns whether there was no list yet.
    fn is_empty(&self) -> bool {
        self.shared.position().0 == Revision::NONE
    }

    /// Marks the mirror as live.
    pub(super) fn set_live(&mut self) {
        self.shared.set_live();
        self.set_health(None);
    }

    /// Marks the mirror as stale, with this reason.
    pub(super) fn set_stale(&mut self, reason: Error) {
        let since = self.stale.unwrap_or_else(Instant::now);
        self.shared.set_stale(since, reason);
        self.set_health(Some(since));
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale.is_some()
    }

    fn set_health(&mut self, stale: Option<Instant>) {
        if self.stale == stale {
            return;
        }
        self.finish_reset();
        self.stale = stale;
        // `Stale` or `Live` may find the queue full too.
        self.reserve(0);
        self.queue_health();
    }

    /// Notes that the reader has called `changes()`.
    pub(super) fn read(&mut self) {
        self.poll_interval = MIN_POLL;
        self.catch_up();
    }

    /// Queues a pending `Reset` if the reader has made room, and sets the next poll interval.
    pub(super) fn poll(&mut self) {
        let waiting = self.bounded_sender.waiting();
        self.poll_interval = match waiting < self.waiting {
            true => MIN_POLL,
            // A reader that takes nothing is checked less often.
            false => (self.poll_interval * 2).min(MAX_POLL),
        };
        self.waiting = waiting;
        self.catch_up();
    }

    /// Begins to queue a pending `Reset` if there is room.
    pub(super) fn catch_up(&mut self) {
        if !self.shared.changes_requested() {
            return;
        }
        let Some(before) = self.reported.take_if(|_| self.bounded_sender.has_room()) else {
            return;
        };
        if !self.shared.needs_differences() {
            self.unneeded.push(before.into_remains());
            return self.queue_reset(self.shared.position().0, Vec::new(), 0);
        }
        let now = self.shared.snapshot();
        self.resetting = Some(Box::new(Resetting {
            revision: now.revision(),
            difference: now.difference(before),
        }));
    }

    fn queue_reset(&mut self, revision: Revision, changes: Vec<KeyChange>, size: usize) {
        let cause = self.cause;
        let reset = MirrorEvent::Reset {
            revision,
            cause,
            changes,
        };
        self.queue(reset, size);
        self.queue_health();
        self.publish_queued();
    }

    /// Ends the queue, with an error or because the mirror was dropped. Returns what is no longer needed.
    pub(super) fn end(mut self, why: Option<Error>) -> Vec<Remains> {
        match why {
            Some(error) => {
                self.finish_reset();
                self.shared.end(error.clone());
                self.bounded_sender.finish(error);
            }
            None => self.bounded_sender.end(),
        }
        let compared = self.resetting.map(|it| it.difference.into_remains());
        let reported = self.reported.map(Snapshot::into_remains);
        self.unneeded.extend(compared.into_iter().chain(reported));
        self.unneeded
    }

    /// Begins to collapse changes into one `Reset` if there is no room for `size` bytes.
    fn reserve(&mut self, size: usize) {
        if self.reported.is_none() && !self.bounded_sender.fits(size) {
            self.reported = Some(self.shared.snapshot());
            self.cause = ResetCause::Overflow;
            self.waiting = self.bounded_sender.waiting();
            self.poll_interval = MIN_POLL;
            self.shared.hold_back();
        }
    }

    fn queue_health(&mut self) {
        // While a `Reset` is pending, the reader gets the state after it.
        if self.reported.is_some() || self.reported_stale == self.stale {
            return;
        }
        self.reported_stale = self.stale;
        let event = match self.stale {
            Some(since) => MirrorEvent::Stale { since },
            None => MirrorEvent::Live,
        };
        self.queue(event, 0);
    }

    /// Queues an event for which there is room, unless a `Reset` is pending. `size` is that of its changes.
    fn queue(&mut self, event: MirrorEvent, size: usize) {
        if self.reported.is_none() {
            let size = size_of::<MirrorEvent>() + size;
            self.bounded_sender.send_over_capacity(Ok(event), size);
        }
    }

    /// Publishes the revision up to which the queue has every change, unless a `Reset` is pending.
    fn publish_queued(&self) {
        if self.reported.is_none() {
            self.shared.set_queued(self.shared.position().0);
        }
    }
}

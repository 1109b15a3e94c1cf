//! What the reader of a mirror is told: every change of the contents while its queue has room, and one
//! `Reset` for what it missed otherwise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::contents::Snapshot;
use super::event::{KeyChange, MirrorEvent, ResetCause};
use super::handle::Shared;
use crate::error::{Error, Result};
use crate::rpc::watch::{Event, WatchResponse};
use crate::runtime::BoundedSender;
use crate::types::{KeyValue, Revision};

/// How soon a reader that takes something out of a full queue is noticed, and one that takes nothing.
/// A crossbeam channel does not say when there is room; a call of `changes()` does.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_AT_MOST: Duration = Duration::from_secs(5);

pub(super) struct ChangeQueue {
    bounded_sender: BoundedSender<Result<MirrorEvent>>,
    shared: Arc<Shared>,
    /// What the reader knows, when it must be told the difference: nothing until it asks for the
    /// changes, and when its queue overflowed. `None` while the queue has everything.
    told: Option<Snapshot>,
    /// Why there will be a difference.
    cause: ResetCause,
    stale: Option<Instant>,
    /// The same as far as the reader was told.
    told_stale: Option<Instant>,
    /// How long until the next look at a queue that was full, and how much was in it at the last one.
    pause: Duration,
    waiting: usize,
}

impl ChangeQueue {
    pub(super) fn new(
        bounded_sender: BoundedSender<Result<MirrorEvent>>,
        shared: Arc<Shared>,
    ) -> Self {
        ChangeQueue {
            bounded_sender,
            shared,
            told: Some(Snapshot::default()),
            cause: ResetCause::First,
            stale: None,
            told_stale: None,
            pause: LOOK,
            waiting: 0,
        }
    }

    /// When to [look](ChangeQueue::look) again whether a slow reader has made room; `None` while nothing is
    /// held back, or nobody ever asked for the changes.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let held_back = self.told.is_some() && self.shared.is_wanted();
        held_back.then_some(self.pause)
    }

    /// Whether the reader is to [catch up](ChangeQueue::catch_up).
    #[cfg(test)]
    pub(super) fn is_behind(&self) -> bool {
        self.told.is_some()
    }

    pub(super) fn apply(&mut self, response: &WatchResponse) {
        let events = response.events();
        let Some(last) = events.last() else {
            self.shared
                .update(|picture| picture.advance(response.revision()));
            return self.note_queued();
        };
        // With what each key was before, which the contents know and the event need not carry.
        let size = |event: &Event| {
            2 * (size_of::<KeyValue>() + event.kv().key().len() + event.kv().value().len())
        };
        self.make_room(events.iter().map(size).sum());
        let revision = last.revision();
        let changes = self
            .shared
            .update(|picture| picture.apply(events, revision));
        self.tell(MirrorEvent::Changed { revision, changes });
        self.note_queued();
    }

    /// Takes over a list of the store in `epoch`.
    pub(super) fn reset(&mut self, list: Vec<KeyValue>, revision: Revision, epoch: u64) {
        let (_, before) = self.shared.position();
        let cause = match epoch == before {
            true => ResetCause::Relisted,
            false => ResetCause::Rewound,
        };
        self.cause = match self.told {
            // Who never asked, or was told nothing yet because there was no list, has lost nothing.
            Some(_) if !self.shared.is_wanted() || self.is_empty() => ResetCause::First,
            Some(_) => self.cause.max(cause),
            None => cause,
        };
        self.told.get_or_insert_with(|| self.shared.snapshot());
        self.shared.update(|picture| picture.reset(list, revision));
        self.shared.set_epoch(epoch);
        self.catch_up();
    }

    /// Whether nothing was listed yet.
    fn is_empty(&self) -> bool {
        self.shared.position().0 == Revision::NONE
    }

    /// The mirror follows.
    pub(super) fn set_live(&mut self) {
        self.shared.set_live();
        self.set_health(None);
    }

    /// The mirror cannot follow, for this reason.
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
        self.stale = stale;
        self.make_room(0);
        self.tell_health();
    }

    /// Somebody reads.
    pub(super) fn read(&mut self) {
        self.pause = LOOK;
        self.catch_up();
    }

    /// Tells a reader what was held back, if it made room; looks again soon when it takes items, and
    /// later each time when it does not.
    pub(super) fn look(&mut self) {
        let waiting = self.bounded_sender.waiting();
        self.pause = match waiting < self.waiting {
            true => LOOK,
            false => (self.pause * 2).min(LOOK_AT_MOST),
        };
        self.waiting = waiting;
        self.catch_up();
    }

    /// Tells the reader everything that it missed, if it has room now.
    pub(super) fn catch_up(&mut self) {
        if !self.shared.is_wanted() {
            return;
        }
        let Some(told) = self.told.take_if(|_| self.bounded_sender.has_room()) else {
            return;
        };
        let now = self.shared.snapshot();
        self.tell(MirrorEvent::Reset {
            revision: now.revision(),
            cause: self.cause,
            changes: now.difference(&told),
        });
        self.tell_health();
        self.note_queued();
    }

    /// The end, because of an error or because the owner let go.
    pub(super) fn end(self, why: Option<Error>) {
        match why {
            Some(error) => {
                self.shared.end(error.clone());
                self.bounded_sender.finish(Err(error));
            }
            None => self.bounded_sender.end(),
        }
    }

    /// When there is no room for so many bytes, everything from here on becomes one `Reset`.
    fn make_room(&mut self, size: usize) {
        if self.told.is_none() && !self.bounded_sender.fits(size) {
            self.told = Some(self.shared.snapshot());
            self.cause = ResetCause::Overflow;
            self.waiting = self.bounded_sender.waiting();
            self.pause = LOOK;
            self.shared.hold_back();
        }
    }

    fn tell_health(&mut self) {
        if self.told.is_some() || self.told_stale == self.stale {
            return;
        }
        self.told_stale = self.stale;
        self.tell(match self.stale {
            Some(since) => MirrorEvent::Stale { since },
            None => MirrorEvent::Live,
        });
    }

    /// Queues an event that there is room for, unless the reader is to get a `Reset` instead.
    fn tell(&mut self, event: MirrorEvent) {
        if self.told.is_none() {
            let size = size(&event);
            self.bounded_sender.insist(Ok(event), size);
        }
    }

    /// TaskWatcher how far the queue is, once everything up to there is in it.
    fn note_queued(&self) {
        if self.told.is_none() {
            self.shared.set_queued(self.shared.position().0);
        }
    }
}

fn size(event: &MirrorEvent) -> usize {
    let changes: &[_] = match event {
        MirrorEvent::Changed { changes, .. } | MirrorEvent::Reset { changes, .. } => changes,
        MirrorEvent::Stale { .. } | MirrorEvent::Live => &[],
    };
    size_of::<MirrorEvent>() + changes.iter().map(KeyChange::size).sum::<usize>()
}

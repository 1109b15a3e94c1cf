//! What the reader of a mirror is told: everything that changes the picture, as long as its queue has
//! room, and else one `Reset` for what it missed.

use std::sync::Arc;
use std::time::Instant;

use super::event::{KeyChange, MirrorEvent};
use super::handle::Shared;
use super::picture::Snapshot;
use crate::error::{Error, Result};
use crate::rt::Outlet;
use crate::types::{KeyValue, Revision};
use crate::watch::{Event, WatchResponse};

pub(super) struct Teller {
    outlet: Outlet<Result<MirrorEvent>>,
    shared: Arc<Shared>,
    /// What the reader knows, when it must be told the difference: at first nothing, and when its
    /// queue overflowed. `None` while the queue has everything.
    told: Option<Snapshot>,
    stale: Option<Instant>,
    /// The same as far as the reader was told.
    told_stale: Option<Instant>,
}

impl Teller {
    pub(super) fn new(outlet: Outlet<Result<MirrorEvent>>, shared: Arc<Shared>) -> Self {
        Teller {
            outlet,
            shared,
            told: Some(Snapshot::default()),
            stale: None,
            told_stale: None,
        }
    }

    /// Whether the reader is to [catch up](Teller::catch_up).
    pub(super) fn is_behind(&self) -> bool {
        self.told.is_some()
    }

    pub(super) fn apply(&mut self, response: &WatchResponse) {
        let events = response.events();
        let Some(last) = events.last() else {
            return self
                .shared
                .update(|picture| picture.advance(response.revision()));
        };
        // With what each key was before, which the picture knows and the event need not carry.
        let size = |event: &Event| {
            2 * (size_of::<KeyValue>() + event.kv().key().len() + event.kv().value().len())
        };
        self.make_room(events.iter().map(size).sum());
        let revision = last.revision();
        let changes = self
            .shared
            .update(|picture| picture.apply(events, revision));
        self.tell(MirrorEvent::Changed { revision, changes });
    }

    pub(super) fn reset(&mut self, list: Vec<KeyValue>, revision: Revision) {
        self.told.get_or_insert_with(|| self.shared.snapshot());
        self.shared.update(|picture| picture.reset(list, revision));
        self.catch_up();
    }

    pub(super) fn set_stale(&mut self, since: Option<Instant>) {
        if since.is_some() == self.stale.is_some() {
            return;
        }
        self.stale = since;
        self.shared.set_stale(since);
        self.make_room(0);
        self.tell_health();
    }

    /// Tells the reader everything that it missed, if it has room now.
    pub(super) fn catch_up(&mut self) {
        let Some(told) = self.told.take_if(|_| self.outlet.has_room()) else {
            return;
        };
        let now = self.shared.snapshot();
        self.tell(MirrorEvent::Reset {
            revision: now.revision(),
            changes: now.difference(&told),
        });
        self.tell_health();
    }

    /// The end, because of an error or because the owner let go.
    pub(super) fn end(self, why: Option<Error>) {
        match why {
            Some(error) => {
                self.shared.end(error.clone());
                self.outlet.finish(Err(error));
            }
            None => self.outlet.end(),
        }
    }

    /// When there is no room for so many bytes, everything from here on becomes one `Reset`.
    fn make_room(&mut self, size: usize) {
        if self.told.is_none() && !self.outlet.fits(size) {
            self.told = Some(self.shared.snapshot());
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
            self.outlet.insist(Ok(event), size);
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

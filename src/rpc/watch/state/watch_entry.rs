//! WatchEntry watch: where it resumes, and what of a batch is new to its reader.

use std::collections::BTreeSet;

use super::Id;
use super::fragments::Fragments;
use crate::error::{Error, Operation};
use crate::rpc::watch::event::Event;
use crate::rpc::watch::request::Watch;

/// Where a watch is on its way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for a stream, or for a read of the store's revision.
    Waiting,
    /// It can be created.
    Queued,
    /// The request to create it is on its way.
    Creating,
    /// The server has it.
    Live {
        wire: i64,
        /// The store's revision when it was created.
        header: i64,
        /// The progress requests sent before it was.
        asked: u64,
    },
    /// Its reader is slow; the server does not have it.
    Paused,
}

#[derive(Debug)]
pub(super) struct WatchEntry {
    pub(super) watch: Watch,
    pub(super) phase: Phase,
    /// The first revision its reader has not seen.
    pub(super) next: Option<i64>,
    /// `next` began as a revision that we read, and not as one the user named.
    pub(super) derived: bool,
    /// A server had it.
    pub(super) created: bool,
    /// The stream in which the store's revision was compared with what is known.
    pub(super) checked: u64,
    /// The epoch of the store that it follows, once it knows anything of one.
    pub(super) store: Option<u64>,
    /// What the store had, at least, before the watch was last created: the reader of a watch that
    /// was cut off is up to date with everything to there.
    pub(super) target: i64,
    /// Where the last response began that was too large for one message.
    pub(super) too_large_at: Option<i64>,
    /// How often what begins there was too large although fragments were asked for.
    pub(super) unfragmented: u32,
    /// The highest revision its reader was told.
    pub(super) told: i64,
    /// It was refused once for a permission, by a server that means that of tokens, too.
    pub(super) denied: bool,
    /// Its reader was told that it is cut off.
    pub(super) down: bool,
    /// The `undo` of the response that said that it is up to date again, if it was the last one.
    pub(super) up_with: Option<i64>,
    pub(super) joining: Fragments,
}

impl WatchEntry {
    pub(super) fn new(watch: Watch) -> Self {
        let start = watch.start.get();
        WatchEntry {
            next: (start > 0).then_some(start),
            phase: Phase::Waiting,
            derived: false,
            created: false,
            checked: 0,
            store: watch.epoch,
            target: 0,
            too_large_at: None,
            unfragmented: 0,
            told: 0,
            denied: false,
            down: false,
            up_with: None,
            joining: Fragments::default(),
            watch,
        }
    }

    /// Whether what comes next is too large for one message.
    pub(super) fn needs_fragments(&self) -> bool {
        self.too_large_at.is_some() && self.too_large_at == self.next
    }

    /// Whether its reader has everything that the store had when it was created.
    pub(super) fn is_up_to_date(&self) -> bool {
        self.next > Some(self.target)
    }

    /// Whether it was cut off and has caught up; says so once. `behind` are those that have not.
    pub(super) fn is_up_again(&mut self, id: Id, behind: &mut BTreeSet<Id>) -> bool {
        let up = self.down && self.is_up_to_date() && behind.remove(&id);
        self.down &= !up;
        up
    }

    /// Whether the store's revision must be read before it is created.
    pub(super) fn needs_read(&self, stream: u64, store: u64) -> bool {
        let unchecked = self.checked != stream || self.is_of_another(store);
        self.next.is_none() || (self.knows() && unchecked)
    }

    /// Whether what it knows is of a store that was replaced.
    pub(super) fn is_of_another(&self, store: u64) -> bool {
        self.knows() && self.store.is_some_and(|own| own != store)
    }

    /// Whether it knows anything of the store's history: a start in the future that the user named
    /// is no knowledge.
    pub(super) fn knows(&self) -> bool {
        self.created || self.derived || self.watch.known.get() > 0
    }

    /// The highest revision that the store had, by what this watch knows; `seen` is what the client
    /// knows.
    pub(super) fn known(&self, seen: i64) -> i64 {
        if self.created || self.derived {
            seen.max(self.watch.known.get()).max(self.told)
        } else {
            self.watch.known.get()
        }
    }

    /// What of a complete batch is new: in its range, and not delivered before. Servers before
    /// 3.4.25 and 3.5.8 may send old events again, and those before 3.4.38, 3.5.22 and 3.6.2 older
    /// ones than were asked for.
    ///
    /// `None` when the batch is not in the order of its revisions.
    pub(super) fn news(&self, mut events: Vec<Event>) -> Option<Vec<Event>> {
        let next = self.next.unwrap_or(0);
        if !events.is_sorted_by_key(Event::revision) {
            return None;
        }
        let (outer, namespace) = (self.watch.outer(), self.watch.namespace());
        let new = |event: &mut Event| {
            event.revision().get() >= next
                && outer.contains(event.key())
                && namespace.is_none_or(|inside| event.leave(inside))
        };
        events.retain_mut(new);
        Some(events)
    }

    pub(super) fn explain(&self, error: Error) -> Error {
        error.operation(Operation::about("watch", &self.watch.range))
    }
}

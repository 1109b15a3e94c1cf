//! The state of one watch: where it resumes, and which events of a batch are new to its reader.

use super::catch_up::CatchUp;
use super::fragments::Fragments;
use crate::error::{Error, Operation};
use crate::rpc::watch::event::Event;
use crate::rpc::watch::watch_id::WatchId;
use crate::rpc::watch::watch_request::Watch;

/// The phase of a watch on its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryPhase {
    /// It waits for a stream, or for a read of the store's revision.
    Waiting,
    /// It can be created.
    Queued,
    /// The request to create it was sent.
    Creating,
    /// The server has it.
    Live {
        wire_id: i64,
        /// The revision of the store when it was created.
        created_at: i64,
        /// The number of progress requests that were sent before the request to create it.
        progress_sent: u64,
        /// The start that was requested.
        start: i64,
    },
    /// Its reader has no room. The server does not have it.
    Paused,
}

/// One watch.
#[derive(Debug)]
pub(super) struct WatchEntry {
    pub(super) watch: Watch,
    pub(super) phase: EntryPhase,
    /// The first revision that was not delivered.
    pub(super) next: Option<i64>,
    /// The start to request in place of `next`, which is later: the store has reached this one.
    pub(super) early_start: Option<i64>,
    /// `next` was first set from a read of the store, and not by the user.
    pub(super) start_was_read: bool,
    /// A server has created it before.
    pub(super) created: bool,
    /// The number of the stream on which the store's revision was last compared with `known`.
    pub(super) checked_on: u64,
    /// The epoch of the store that it follows, once it has a revision of one.
    pub(super) store_epoch: Option<u64>,
    /// A revision that the store had reached before the watch was last created. A watch that was down
    /// is up again when everything up to there was delivered.
    pub(super) caught_up_at: i64,
    /// The first revision of the last response that was too large for a message.
    pub(super) too_large_at: Option<i64>,
    /// The number of times that the response from there was too large although fragments were requested.
    pub(super) unfragmented_repeats: u32,
    /// The highest revision that was delivered, by events or by progress.
    pub(super) delivered_to: i64,
    /// It was refused once for a missing permission, by a server that answers so for invalid tokens, too.
    pub(super) denied_once: bool,
    /// `Down` was the last report to its reader.
    pub(super) down: bool,
    /// The `undo` of the last response, if that response reported the watch as up again.
    pub(super) up_undo: Option<i64>,
    pub(super) fragments: Fragments,
}

impl WatchEntry {
    pub(super) fn new(watch: Watch) -> Self {
        let start = watch.start.get();
        WatchEntry {
            // Without a start revision, a read of the store's revision decides where it begins.
            next: (start > 0).then_some(start),
            phase: EntryPhase::Waiting,
            early_start: None,
            start_was_read: false,
            created: false,
            checked_on: 0,
            store_epoch: watch.epoch,
            caught_up_at: 0,
            too_large_at: None,
            unfragmented_repeats: 0,
            delivered_to: 0,
            denied_once: false,
            down: false,
            up_undo: None,
            fragments: Fragments::default(),
            watch,
        }
    }

    /// Whether the next response is too large for a message.
    pub(super) fn needs_fragments(&self) -> bool {
        self.too_large_at.is_some() && self.too_large_at == self.next
    }

    /// Whether everything was delivered that the store had when it was created.
    pub(super) fn is_up_to_date(&self) -> bool {
        self.next > Some(self.caught_up_at)
    }

    /// Takes a watch that was down and has caught up out of `catching_up`, and returns true once.
    pub(super) fn is_up_again(&mut self, id: WatchId, catch_up: &mut CatchUp) -> bool {
        // `remove` last: it must happen only when the watch is up to date.
        let up = self.down && self.is_up_to_date() && catch_up.remove(id);
        self.down &= !up;
        up
    }

    /// Whether the store's revision must be read before the watch is created.
    pub(super) fn needs_read(&self, stream: u64, store: u64) -> bool {
        let unchecked = self.checked_on != stream || self.follows_another(store);
        self.next.is_none() || (self.has_seen_store() && unchecked)
    }

    /// Whether it follows a store that was replaced.
    pub(super) fn follows_another(&self, store: u64) -> bool {
        self.has_seen_store() && self.store_epoch.is_some_and(|own| own != store)
    }

    /// Whether it has seen a revision of the store. A start revision of the user does not count: it
    /// may be in the future.
    pub(super) fn has_seen_store(&self) -> bool {
        self.created || self.start_was_read || self.watch.known.get() > 0
    }

    /// The highest revision that the store must have reached for this watch; `seen` is the highest one
    /// that the client has seen.
    pub(super) fn known(&self, seen: i64) -> i64 {
        if self.created || self.start_was_read {
            seen.max(self.watch.known.get()).max(self.delivered_to)
        } else {
            self.watch.known.get()
        }
    }

    /// The events of a complete batch that are in the range of the watch and were not delivered before.
    /// Servers before 3.4.25 and 3.5.8 may send old events again, and those before 3.4.38, 3.5.22
    /// and 3.6.2 events from before the start revision.
    ///
    /// `None` when the batch is not ordered by revision.
    pub(super) fn new_events(&self, mut events: Vec<Event>) -> Option<Vec<Event>> {
        let next = self.next.unwrap_or(0);
        // etcd sends batches in order; another order is a violation of the protocol.
        if !events.is_sorted_by_key(Event::revision) {
            return None;
        }
        let (outer, namespace) = (self.watch.outer(), self.watch.namespace());
        let is_new = |event: &mut Event| {
            event.revision().get() >= next
                && outer.contains(event.key())
                && namespace.is_none_or(|inside| event.leave(inside))
        };
        events.retain_mut(is_new);
        Some(events)
    }

    /// Adds the operation to an error.
    pub(super) fn explain(&self, error: Error) -> Error {
        error.operation(Operation::about("watch", &self.watch.range))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::types::Revision;

    fn entry() -> WatchEntry {
        WatchEntry::new(Watch::key("k"))
    }

    #[test]
    fn fragments_are_needed_at_the_revision_of_the_oversized_response_only() {
        for (too_large_at, next, needs) in [
            (None, None, false),
            (None, Some(5), false),
            (Some(5), None, false),
            (Some(5), Some(5), true),
            (Some(5), Some(6), false),
        ] {
            let entry = WatchEntry {
                too_large_at,
                next,
                ..entry()
            };
            assert_eq!(entry.needs_fragments(), needs, "{too_large_at:?} {next:?}");
        }
    }

    #[test]
    fn a_watch_that_was_down_and_caught_up_is_up_again_once() {
        for (down, next, is_catching_up, up) in [
            (true, 11, true, true),
            (true, 10, true, false),
            (true, 11, false, false),
            (false, 11, true, false),
        ] {
            let mut catch_up = CatchUp::new(Instant::now());
            if is_catching_up {
                catch_up.insert(1, Instant::now());
            }
            let mut entry = WatchEntry {
                down,
                next: Some(next),
                caught_up_at: 10,
                ..entry()
            };
            assert_eq!(entry.is_up_again(1, &mut catch_up), up);
            assert_eq!(entry.down, down && !up);
            assert_eq!(catch_up.is_empty(), up || !is_catching_up);
            assert!(!entry.is_up_again(1, &mut catch_up), "once");
        }
    }

    #[test]
    fn a_watch_that_saw_the_store_knows_every_revision_that_the_client_saw() {
        for (created, start_was_read, known) in [
            (false, false, 20),
            (true, false, 30),
            (false, true, 30),
            (true, true, 30),
        ] {
            let mut entry = WatchEntry {
                created,
                start_was_read,
                ..WatchEntry::new(Watch::key("k").after(Revision::new(20)))
            };
            assert_eq!(entry.known(30), known);
            assert_eq!(entry.known(10), 20);
            entry.delivered_to = 40;
            assert_eq!(entry.known(30), if known == 20 { 20 } else { 40 });
        }
    }
}

//! The requests to the server: creating and cancelling watches, and progress requests.

use std::time::Instant;

use super::watch_entry::{EntryPhase, WatchEntry};
use super::watches::{MovingWatch, StreamState, Watches};
use crate::grpc::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::grpc::etcd_rs_proto::etcdserverpb::{WatchCancelRequest, WatchProgressRequest};
use crate::rpc::watch::watch_id::WatchId;
use crate::rpc::watch::watch_request::Watch;

impl Watches {
    pub(super) fn add(&mut self, id: WatchId, watch: Watch) {
        self.entries.insert(id, Box::new(WatchEntry::new(watch)));
        self.route(id);
    }

    pub(super) fn remove(&mut self, id: WatchId) {
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        self.progress_wanted.remove(&id);
        self.catch_up.remove(id);
        match entry.phase {
            EntryPhase::Live { wire_id, .. } => self.cancel(wire_id),
            // The answer then cancels the watch, whose id on the server is not known yet.
            EntryPhase::Creating => self.creating.withdraw(id),
            // It may still be in lists of ids: their users look up each id.
            EntryPhase::Waiting | EntryPhase::Queued | EntryPhase::Paused => {}
        }
    }

    pub(super) fn pause(&mut self, id: WatchId, next: i64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.next = Some(next);
        entry.early_start = None;
        entry.fragments.clear();
        // The response that would have completed its catching up was not delivered.
        entry.down |= entry.up_undo == Some(next);
        self.catch_up.remove(id);
        let phase = std::mem::replace(&mut entry.phase, EntryPhase::Paused);
        match phase {
            EntryPhase::Live { wire_id, .. } => self.cancel(wire_id),
            // The answer then cancels the watch, whose id on the server is not known yet.
            EntryPhase::Creating => self.creating.withdraw(id),
            EntryPhase::Waiting | EntryPhase::Queued | EntryPhase::Paused => {}
        }
    }

    /// Removes a watch from this stream, to move it to another.
    pub(super) fn move_away(&mut self, id: WatchId) {
        let Some(mut entry) = self.entries.remove(&id) else {
            return;
        };
        // A paused watch stays paused: its reader has no room on any stream.
        if entry.phase != EntryPhase::Paused {
            entry.phase = EntryPhase::Waiting;
        }
        entry.early_start = None;
        entry.fragments.clear();
        // The store is checked again on the other stream.
        entry.checked_on = 0;
        let progress_wanted = self.progress_wanted.remove(&id);
        self.catch_up.remove(id);
        self.moving.push(MovingWatch {
            id,
            entry,
            progress_wanted,
        });
    }

    /// Moves watches from a stream with fragments back to the shared stream: those that must be
    /// created again, and whose next response is not known to be too large for a message.
    pub(super) fn return_to_shared(&mut self) {
        let fits = |entry: &WatchEntry| {
            let is_created = !matches!(entry.phase, EntryPhase::Waiting | EntryPhase::Paused);
            !is_created && !entry.needs_fragments()
        };
        let entries = self.entries.iter();
        let leave: Vec<WatchId> = entries
            .filter(|(_, entry)| fits(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in leave {
            self.move_away(id);
        }
    }

    /// Adds a watch that comes from another stream; `highest` is the highest revision seen there.
    pub(super) fn take_over(&mut self, moving: MovingWatch, highest: i64) {
        let MovingWatch {
            id,
            entry,
            progress_wanted,
        } = moving;
        self.highest = self.highest.max(highest);
        let paused = entry.phase == EntryPhase::Paused;
        self.entries.insert(id, entry);
        if progress_wanted {
            self.progress_wanted.insert(id);
        }
        if !paused {
            self.route(id);
        }
    }

    pub(super) fn unpause(&mut self, id: WatchId) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.phase == EntryPhase::Paused
        {
            entry.phase = EntryPhase::Waiting;
            self.route(id);
        }
    }

    /// Queues a watch for creation, or for the read that must come first. Without a stream, it waits.
    pub(super) fn route(&mut self, id: WatchId) {
        let StreamState::Open { .. } = self.stream else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        // A watch with a revision of the store is checked for a rewind on every new stream.
        if entry.needs_read(self.stream_count, self.store_epoch) {
            entry.phase = EntryPhase::Waiting;
            self.needs_read.push(id);
        } else {
            entry.phase = EntryPhase::Queued;
            self.queue.push_back(id);
        }
    }

    pub(super) fn send_creates(&mut self, now: Instant) {
        while self.creating.has_room() {
            let Some(id) = self.queue.pop_front() else {
                return;
            };
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            let (EntryPhase::Queued, Some(next)) = (entry.phase, entry.next) else {
                continue;
            };
            entry.phase = EntryPhase::Creating;
            let start = entry.early_start.unwrap_or(next);
            let create = entry.watch.create(start, self.kind.fragments);
            self.creating.push(id, self.progress_requests.sent, now);
            self.send(RequestUnion::CreateRequest(create));
        }
    }

    /// Creates the watches again that begin after the store's revision, with starts that the store has reached.
    ///
    /// etcd answers no progress request of a stream before the store has reached the starts of all its watches. What
    /// is sent from before `next` is not delivered.
    fn start_earlier(&mut self) {
        let highest = self.highest;
        let ahead = self
            .entries
            .iter()
            .filter_map(|(id, entry)| match entry.phase {
                EntryPhase::Live {
                    wire_id,
                    created_at,
                    start,
                    ..
                } if created_at > 0 && start > created_at.max(highest) => {
                    Some((*id, wire_id, created_at))
                }
                _ => None,
            });
        for (id, wire_id, created_at) in ahead.collect::<Vec<_>>() {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.early_start = Some(created_at);
                entry.fragments.clear();
                entry.phase = EntryPhase::Queued;
                self.queue.push_back(id);
                self.cancel(wire_id);
            }
        }
    }

    /// Creates a watch again that was created with an early start, if only events from before `next` were compacted.
    pub(super) fn start_late_again(&mut self, id: WatchId, compacted: i64) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        let again = entry.early_start.take().is_some() && entry.next >= Some(compacted);
        if again {
            entry.fragments.clear();
            entry.phase = EntryPhase::Queued;
            self.queue.push_back(id);
        }
        again
    }

    /// Cancels a watch by its id on the server.
    pub(super) fn cancel(&mut self, wire_id: i64) {
        if self.wire_ids.cancel(wire_id) {
            self.send(RequestUnion::CancelRequest(WatchCancelRequest {
                watch_id: wire_id,
            }));
        }
    }

    pub(super) fn request_progress(&mut self, id: WatchId) {
        if self.entries.contains_key(&id) {
            self.progress_wanted.insert(id);
            // A read answers for a watch that has caught up, for which etcd may send no progress.
            self.progress_reads.push(id);
            self.progress_requests.reset_pace();
        }
    }

    pub(super) fn send_progress_request_if_due(&mut self, now: Instant) {
        let repeat_at = self.progress_requests.repeat_at();
        if self.needs_progress() && repeat_at.is_none_or(|at| at <= now) {
            self.progress_requests.slow_down();
            self.send_progress_request(now);
        }
    }

    pub(super) fn needs_progress(&self) -> bool {
        let wanted = !self.progress_wanted.is_empty() || !self.catch_up.is_empty();
        wanted && !self.wire_ids.is_empty()
    }

    pub(super) fn send_progress_request(&mut self, now: Instant) {
        if self.progress_requests.is_unanswered() {
            self.start_earlier();
            self.send_creates(now);
        }
        self.progress_requests.record(now);
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }
}

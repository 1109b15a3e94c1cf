//! What the client asks of the server: watches to create and to cancel, and progress.

use std::time::{Duration, Instant};

use super::watch_entry::{Phase, WatchEntry};
use super::{Creating, Id, Moving, StreamPhase, Watches};
use crate::grpc::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::grpc::etcd_rs_proto::etcdserverpb::{WatchCancelRequest, WatchProgressRequest};
use crate::rpc::watch::request::Watch;

/// Requests to create watches that may be unanswered together.
const PIPELINE: usize = 500;

/// A progress request is not answered while any watch of the stream catches up: then it is repeated,
/// at first after this long, later less often.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(50);
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(2);

impl Watches {
    pub(super) fn add(&mut self, id: Id, watch: Watch) {
        self.ones.insert(id, WatchEntry::new(watch));
        self.route(id);
    }

    pub(super) fn remove(&mut self, id: Id) {
        let Some(one) = self.ones.remove(&id) else {
            return;
        };
        self.asking.remove(&id);
        self.behind.remove(&id);
        match one.phase {
            Phase::Live { wire, .. } => self.cancel(wire),
            Phase::Creating => self.disown_creating(id),
            // Lists it may be on are read with the watches at hand.
            Phase::Waiting | Phase::Queued | Phase::Paused => {}
        }
    }

    pub(super) fn pause(&mut self, id: Id, next: i64) {
        let Some(one) = self.ones.get_mut(&id) else {
            return;
        };
        one.next = Some(next);
        one.joining.clear();
        // What would have brought it up to date was not taken.
        one.down |= one.up_with == Some(next);
        self.behind.remove(&id);
        let phase = std::mem::replace(&mut one.phase, Phase::Paused);
        match phase {
            Phase::Live { wire, .. } => self.cancel(wire),
            Phase::Creating => self.disown_creating(id),
            Phase::Waiting | Phase::Queued | Phase::Paused => {}
        }
    }

    /// Takes a watch off this stream, for another.
    pub(super) fn send_away(&mut self, id: Id) {
        let Some(mut one) = self.ones.remove(&id) else {
            return;
        };
        if one.phase != Phase::Paused {
            one.phase = Phase::Waiting;
        }
        one.joining.clear();
        one.checked = 0;
        let asking = self.asking.remove(&id);
        self.behind.remove(&id);
        self.moving.push(Moving { id, one, asking });
    }

    /// Takes the watches off a stream of fragments that have to be created anew, and of which what
    /// comes next fits into a message as far as anybody knows.
    pub(super) fn send_home(&mut self) {
        let fits = |one: &WatchEntry| {
            let anew = matches!(one.phase, Phase::Waiting | Phase::Paused);
            anew && !one.needs_fragments()
        };
        let ones = self.ones.iter();
        let leave: Vec<Id> = ones
            .filter(|(_, one)| fits(one))
            .map(|(id, _)| *id)
            .collect();
        for id in leave {
            self.send_away(id);
        }
    }

    /// Takes up a watch from another stream; `highest` is what that one knew of the store.
    pub(super) fn adopt(&mut self, moving: Moving, highest: i64) {
        let Moving { id, one, asking } = moving;
        self.highest = self.highest.max(highest);
        let paused = one.phase == Phase::Paused;
        self.ones.insert(id, one);
        if asking {
            self.asking.insert(id);
        }
        if !paused {
            self.route(id);
        }
    }

    pub(super) fn unpause(&mut self, id: Id) {
        if let Some(one) = self.ones.get_mut(&id)
            && one.phase == Phase::Paused
        {
            one.phase = Phase::Waiting;
            self.route(id);
        }
    }

    /// Puts a watch that waits on its way, if there is a stream.
    pub(super) fn route(&mut self, id: Id) {
        let StreamPhase::Open { .. } = self.line else {
            return;
        };
        let Some(one) = self.ones.get_mut(&id) else {
            return;
        };
        if one.needs_read(self.epoch, self.store) {
            one.phase = Phase::Waiting;
            self.unread.push(id);
        } else {
            one.phase = Phase::Queued;
            self.queue.push_back(id);
        }
    }

    pub(super) fn send_creates(&mut self, now: Instant) {
        while self.creating.len() < PIPELINE {
            let Some(id) = self.queue.pop_front() else {
                return;
            };
            let Some(one) = self.ones.get_mut(&id) else {
                continue;
            };
            let (Phase::Queued, Some(next)) = (one.phase, one.next) else {
                continue;
            };
            one.phase = Phase::Creating;
            let create = one.watch.create(next, self.kind.fragments);
            if self.creating.is_empty() {
                (self.created_at, self.uncreated) = (now, 0);
            }
            self.creating.push_back(Creating {
                id: Some(id),
                asked: self.asked,
            });
            self.send(RequestUnion::CreateRequest(create));
        }
    }

    /// Cancels a watch that the server has.
    pub(super) fn cancel(&mut self, wire: i64) {
        self.by_wire.remove(&wire);
        if self.disowned.insert(wire) {
            self.send(RequestUnion::CancelRequest(WatchCancelRequest {
                watch_id: wire,
            }));
        }
    }

    /// Its id is not known yet: it is cancelled when the server names it.
    fn disown_creating(&mut self, id: Id) {
        if let Some(creating) = self.creating.iter_mut().find(|c| c.id == Some(id)) {
            creating.id = None;
        }
    }

    pub(super) fn want_progress(&mut self, id: Id) {
        if self.ones.contains_key(&id) {
            self.asking.insert(id);
            self.questions.push(id);
            self.ask_again = ASK_AGAIN;
        }
    }

    pub(super) fn ask_progress(&mut self, now: Instant) {
        if self.wants_progress() && self.next_question().is_none_or(|at| at <= now) {
            if self.asked_at.is_some() {
                self.ask_again = (self.ask_again * 2).min(ASK_AGAIN_AT_MOST);
            }
            self.ask(now);
        }
    }

    pub(super) fn wants_progress(&self) -> bool {
        let nobody = self.asking.is_empty() && self.behind.is_empty();
        !nobody && !self.by_wire.is_empty()
    }

    pub(super) fn ask(&mut self, now: Instant) {
        self.asked += 1;
        self.asked_at = Some(now);
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    /// When a progress request may be repeated.
    pub(super) fn next_question(&self) -> Option<Instant> {
        self.asked_at.map(|at| at + self.ask_again)
    }
}

//! What the client asks of the server: watches to create and to cancel, and progress.

use std::time::{Duration, Instant};

use super::one::{One, Phase};
use super::{Creating, Id, Line, Watches};
use crate::etcd_rs_proto::etcdserverpb::watch_request::RequestUnion;
use crate::etcd_rs_proto::etcdserverpb::{WatchCancelRequest, WatchProgressRequest};
use crate::watch::request::Watch;

/// Requests to create watches that may be unanswered together.
const PIPELINE: usize = 500;

/// A progress request is not answered while any watch of the stream catches up: then it is repeated,
/// at first after this long, later less often.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(50);
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(2);

impl Watches {
    pub(super) fn add(&mut self, id: Id, watch: Watch) {
        self.ones.insert(id, One::new(watch));
        self.route(id);
    }

    pub(super) fn remove(&mut self, id: Id) {
        let Some(one) = self.ones.remove(&id) else {
            return;
        };
        self.asking.remove(&id);
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
        let phase = std::mem::replace(&mut one.phase, Phase::Paused);
        match phase {
            Phase::Live { wire, .. } => self.cancel(wire),
            Phase::Creating => self.disown_creating(id),
            Phase::Waiting | Phase::Queued | Phase::Paused => {}
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
        let Line::Open { .. } = self.line else { return };
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
            let create = one.watch.create(next);
            self.creating.push_back(Creating {
                id: Some(id),
                sent: now,
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
        let wanted = !self.asking.is_empty() && !self.by_wire.is_empty();
        if wanted && self.next_question().is_none_or(|at| at <= now) {
            if self.asked_at.is_some() {
                self.ask_again = (self.ask_again * 2).min(ASK_AGAIN_AT_MOST);
            }
            self.ask(now);
        }
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

//! One instance of a registrar: its key, what its owner is shown, and why it is not as it should be.

use std::sync::Arc;
use std::time::Instant;

use super::claim::{Claim, Phase, Step, Taken};
use super::dispute::Dispute;
use super::leases::Leases;
use super::leave_group::LeaveTicket;
use super::outlook::Outlook;
use super::refusal;
use super::registration::{Loss, Shared, State};
use super::status::Status;
use crate::chance;
use crate::error::{Error, ErrorKind, Operation};
use crate::types::{KeyValue, LeaseId};
use crate::watch::{Event, EventKind, WatchKey};

/// What an owner gave last: the status, and how many times it was changed before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    status: Status,
    version: u64,
}

impl Given {
    pub(super) fn new(status: Status, version: u64) -> Self {
        Given { status, version }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) claim: Claim,
    pub(super) shared: Arc<Shared>,
    pub(super) watch: Option<WatchKey>,
    pub(super) dispute: Dispute,
    /// Those who wait until it has left.
    leaving: Vec<LeaveTicket>,
    loss: Option<Loss>,
    /// Why its last step failed.
    trouble: Option<Error>,
    /// Why etcd refuses the value that is wanted. It stays the trouble while the last value that etcd
    /// took is put back or moved.
    refusal: Option<Error>,
    /// What is in the value that is wanted, in the one that was sent last, and in the one that is in
    /// etcd.
    wanted: Given,
    sent: Given,
    shown: Given,
}

impl Entry {
    pub(super) fn new(claim: Claim, shared: Arc<Shared>, given: Given) -> Self {
        Entry {
            claim,
            shared,
            watch: None,
            dispute: Dispute::new(),
            leaving: Vec::new(),
            loss: None,
            trouble: None,
            refusal: None,
            wanted: given,
            sent: given,
            shown: given,
        }
    }

    pub(super) fn update(&mut self, value: bytes::Bytes, given: Given) {
        self.wanted = given;
        // What was refused was the value before.
        self.trouble
            .take_if(|error| refusal::is_final(error.kind()));
        self.refusal = None;
        self.claim.update(value);
    }

    pub(super) fn leave(&mut self, ticket: LeaveTicket) {
        self.leaving.push(ticket);
        self.claim.leave();
    }

    pub(super) fn begin(&mut self, step: Step) {
        if let Step::Write(..) = step {
            self.sent = match self.claim.falls_back() {
                true => self.shown,
                false => self.wanted,
            };
        }
        self.claim.begin(step);
    }

    pub(super) fn taken(&mut self, taken: Taken) {
        self.loss = Some(match taken {
            Taken::Deleted => Loss::KeyDeleted,
            Taken::Overwritten => Loss::Overwritten,
            Taken::By(by) => Loss::Replaced { by },
        });
        self.dispute.taken(Instant::now(), chance::fraction());
    }

    /// Its key changed. Says whether anything follows from that: most events are of our own writes,
    /// and known by their answers.
    pub(super) fn follow(
        &mut self,
        event: &Event,
        leases: &Leases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> bool {
        let before = (self.claim.phase, self.claim.placed());
        let kv = (event.kind() == EventKind::Put).then(|| event.kv().clone());
        if let Some(taken) = self.claim.event(event.revision(), kv, leases, &valid) {
            self.taken(taken);
        }
        before != (self.claim.phase, self.claim.placed())
    }

    pub(super) fn lease_lost(&mut self, lost: LeaseId, loss: Loss) {
        self.claim.lease_lost(lost);
        if self.claim.was_held() && self.claim.placed().is_none() {
            self.loss = Some(loss);
        }
    }

    /// A lease is gone that is not renewed any more. Says whether its key was on it.
    pub(super) fn retired_lost(&mut self, lost: LeaseId) -> bool {
        let was_on_it = self.claim.retired_lost(lost);
        if was_on_it && self.claim.was_held() {
            self.loss = Some(Loss::LeaseGone);
        }
        was_on_it
    }

    /// Whether its last step was refused for want of a permission.
    pub(super) fn is_denied(&self) -> bool {
        let trouble = self.trouble.as_ref();
        trouble.is_some_and(|trouble| trouble.kind() == ErrorKind::PermissionDenied)
    }

    /// etcd refused its step, and no other step was in the transaction.
    pub(super) fn refused(&mut self, error: &Error) {
        let is_wanted = self.claim.refused(true);
        self.failed(error);
        if is_wanted {
            self.refusal.clone_from(&self.trouble);
        }
    }

    /// Its step was not done, for certain or as far as is known, and it need not be the reason.
    pub(super) fn not_done(&mut self, is_certain: bool) {
        if is_certain {
            self.claim.refused(false);
        } else {
            self.claim.failed();
        }
    }

    /// Its step failed, and another try will be made.
    pub(super) fn failed(&mut self, error: &Error) {
        let verb = match (self.claim.is_leaving(), self.claim.placed()) {
            (true, _) => "leave",
            (false, Some(_)) => "update",
            (false, None) => "register",
        };
        let about = Operation::about(verb, &self.shared.instance().id);
        self.trouble = Some(error.clone().operation(about));
    }

    /// The key may not be deleted: it stays until its lease ends.
    pub(super) fn give_up_leaving(&mut self) {
        self.claim.give_up();
    }

    /// Its step was carried out. What remains is the reason why the wanted value is refused, if it is.
    pub(super) fn worked(&mut self) {
        self.refusal.take_if(|_| !self.claim.is_refused());
        self.trouble.clone_from(&self.refusal);
    }

    /// Somebody else has the key, and that is final.
    pub(super) fn conflict(&mut self, by: Option<LeaseId>) {
        let reason = match by {
            Some(lease) => format!("it is registered already, under lease {lease}"),
            None => "its key exists already, under no lease".into(),
        };
        let error = Error::new(ErrorKind::Conflict, reason).operation(Operation::new("register"));
        self.shared.refuse(error);
    }

    /// Shows its owner how it is.
    pub(super) fn show(&mut self, outlook: &Arc<Outlook>, is_unguarded: bool) {
        let state = match self.state(outlook) {
            State::Registered { valid_until, .. } if is_unguarded => State::Suspect { valid_until },
            state => state,
        };
        let placed = self.claim.placed().map(|placed| placed.revision);
        let held_by = match self.claim.phase {
            Phase::Yielded { by } => Some(by),
            _ => None,
        };
        let trouble = self.trouble.clone();
        let trouble = trouble.or_else(|| is_unguarded.then(|| self.unguarded()));
        self.shared.attach(outlook);
        let stored = placed.map(|revision| (revision, self.shown.version));
        self.shared.show(state, stored, held_by, trouble);
    }

    fn unguarded(&self) -> Error {
        let reason = "its key cannot be watched at the moment, so that a loss may go unnoticed";
        let about = Operation::about("watch", &self.shared.instance().id);
        Error::new(ErrorKind::Unavailable, reason).operation(about)
    }

    /// It has left. Whoever waited in time is told; whoever gave up is not.
    pub(super) fn left(&mut self) {
        let outcome = self.trouble.clone().map_or(Ok(()), Err);
        self.shared.end(outcome.clone());
        for ticket in self.leaving.drain(..) {
            ticket.done(outcome.clone());
        }
    }

    fn state(&mut self, outlook: &Outlook) -> State {
        if self.claim.placed().is_some() && self.claim.sent_is_there() {
            self.shown = self.sent;
        }
        match (self.claim.placed(), self.claim.phase) {
            (Some(placed), _) => {
                self.loss = None;
                let valid_until = outlook.valid_until();
                if self.shown.status == Status::Draining {
                    State::Draining
                } else if outlook.is_suspect() || outlook.is_retired() && self.trouble.is_some() {
                    State::Suspect { valid_until }
                } else {
                    State::Registered {
                        lease: placed.lease,
                        revision: placed.revision,
                        valid_until,
                    }
                }
            }
            (None, Phase::Yielded { by }) if self.claim.was_held() => State::Lost {
                why: Loss::Replaced { by },
            },
            (None, _) if self.claim.was_held() => State::Lost {
                why: self.loss.unwrap_or(Loss::LeaseGone),
            },
            (None, _) => State::Starting,
        }
    }
}

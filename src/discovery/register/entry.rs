//! One instance of a registrar: its key, what its owner is shown, and why it is not as it should be.

use std::sync::Arc;
use std::time::Instant;

use super::contention_backoff::ContentionBackoff;
use super::lease_validity::LeaseValidity;
use super::leases::Leases;
use super::leave_group::LeaveTicket;
use super::owned_key::{OwnedKey, Phase, Step, Taken};
use super::refusal;
use super::registration::{Loss, Shared, State};
use crate::discovery::status::Status;
use crate::error::{Error, ErrorKind, Operation};
use crate::rpc::watch::{Event, EventKind, WatchKey};
use crate::types::{KeyValue, LeaseId};
use crate::util::jitter;

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
    pub(super) owned_key: OwnedKey,
    pub(super) shared: Arc<Shared>,
    pub(super) watch: Option<WatchKey>,
    pub(super) contention: ContentionBackoff,
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
    pub(super) fn new(owned_key: OwnedKey, shared: Arc<Shared>, given: Given) -> Self {
        Entry {
            owned_key,
            shared,
            watch: None,
            contention: ContentionBackoff::new(),
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
        self.owned_key.update(value);
    }

    pub(super) fn leave(&mut self, ticket: LeaveTicket) {
        self.leaving.push(ticket);
        self.owned_key.leave();
    }

    pub(super) fn begin(&mut self, step: Step) {
        if let Step::Write(..) = step {
            self.sent = match self.owned_key.falls_back() {
                true => self.shown,
                false => self.wanted,
            };
        }
        self.owned_key.begin(step);
    }

    pub(super) fn taken(&mut self, taken: Taken) {
        self.loss = Some(match taken {
            Taken::Deleted => Loss::KeyDeleted,
            Taken::Overwritten => Loss::Overwritten,
            Taken::By(by) => Loss::Replaced { by },
        });
        self.contention.taken(Instant::now(), jitter::fraction());
    }

    /// Its key changed. Says whether anything follows from that: most events are of our own writes,
    /// and known by their answers.
    pub(super) fn follow(
        &mut self,
        event: &Event,
        leases: &Leases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> bool {
        let before = (self.owned_key.phase, self.owned_key.placed());
        let kv = (event.kind() == EventKind::Put).then(|| event.kv().clone());
        if let Some(taken) = self.owned_key.event(event.revision(), kv, leases, &valid) {
            self.taken(taken);
        }
        before != (self.owned_key.phase, self.owned_key.placed())
    }

    pub(super) fn lease_lost(&mut self, lost: LeaseId, loss: Loss) {
        self.owned_key.lease_lost(lost);
        if self.owned_key.was_held() && self.owned_key.placed().is_none() {
            self.loss = Some(loss);
        }
    }

    /// A lease is gone that is not renewed any more. Says whether its key was on it.
    pub(super) fn retired_lost(&mut self, lost: LeaseId) -> bool {
        let was_on_it = self.owned_key.retired_lost(lost);
        if was_on_it && self.owned_key.was_held() {
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
        let is_wanted = self.owned_key.refused(true);
        self.failed(error);
        if is_wanted {
            self.refusal.clone_from(&self.trouble);
        }
    }

    /// Its step was not done, for certain or as far as is known, and it need not be the reason.
    pub(super) fn not_done(&mut self, is_certain: bool) {
        if is_certain {
            self.owned_key.refused(false);
        } else {
            self.owned_key.failed();
        }
    }

    /// Its step failed, and another try will be made.
    pub(super) fn failed(&mut self, error: &Error) {
        let verb = match (self.owned_key.is_leaving(), self.owned_key.placed()) {
            (true, _) => "leave",
            (false, Some(_)) => "update",
            (false, None) => "register",
        };
        let about = Operation::about(verb, &self.shared.instance().id);
        self.trouble = Some(error.clone().operation(about));
    }

    /// The key may not be deleted: it stays until its lease ends.
    pub(super) fn give_up_leaving(&mut self) {
        self.owned_key.give_up();
    }

    /// Its step was carried out. What remains is the reason why the wanted value is refused, if it is.
    pub(super) fn worked(&mut self) {
        self.refusal.take_if(|_| !self.owned_key.is_refused());
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
    pub(super) fn show(&mut self, validity: &Arc<LeaseValidity>, is_unguarded: bool) {
        let state = match self.state(validity) {
            State::Registered { valid_until, .. } if is_unguarded => State::Suspect { valid_until },
            state => state,
        };
        let placed = self.owned_key.placed().map(|placed| placed.revision);
        let held_by = match self.owned_key.phase {
            Phase::Yielded { by } => Some(by),
            _ => None,
        };
        let trouble = self.trouble.clone();
        let trouble = trouble.or_else(|| is_unguarded.then(|| self.unguarded()));
        self.shared.attach(validity);
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

    fn state(&mut self, validity: &LeaseValidity) -> State {
        if self.owned_key.placed().is_some() && self.owned_key.sent_is_there() {
            self.shown = self.sent;
        }
        match (self.owned_key.placed(), self.owned_key.phase) {
            (Some(placed), _) => {
                self.loss = None;
                let valid_until = validity.valid_until();
                if self.shown.status == Status::Draining {
                    State::Draining
                } else if validity.is_suspect() || validity.is_retired() && self.trouble.is_some() {
                    State::Suspect { valid_until }
                } else {
                    State::Registered {
                        lease: placed.lease,
                        revision: placed.revision,
                        valid_until,
                    }
                }
            }
            (None, Phase::Yielded { by }) if self.owned_key.was_held() => State::Lost {
                why: Loss::Replaced { by },
            },
            (None, _) if self.owned_key.was_held() => State::Lost {
                why: self.loss.unwrap_or(Loss::LeaseGone),
            },
            (None, _) => State::Starting,
        }
    }
}

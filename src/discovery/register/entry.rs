//! One instance of a registrar: its key, the state that its handles see, and its last error.

use std::sync::Arc;
use std::time::Instant;

use super::contention_backoff::ContentionBackoff;
use super::key_phase::{KeyLoss, Phase};
use super::key_step::KeyStep;
use super::lease_validity::LeaseValidity;
use super::leave_group::LeaveReply;
use super::owned_key::OwnedKey;
use super::refusal;
use super::registrar_leases::RegistrarLeases;
use super::registration::{Loss, Shared, State};
use crate::discovery::status::Status;
use crate::error::{Error, ErrorKind, Operation};
use crate::rpc::watch::{Event, EventKind, WatchKey};
use crate::types::{KeyValue, LeaseId};
use crate::util::jitter;

/// The status in a value of an instance, and the number of changes before this value.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueVersion {
    status: Status,
    version: u64,
}

impl ValueVersion {
    pub(super) fn new(status: Status, version: u64) -> Self {
        ValueVersion { status, version }
    }
}

/// The worker's side of one registration.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) owned_key: OwnedKey,
    pub(super) shared: Arc<Shared>,
    pub(super) watch: Option<WatchKey>,
    pub(super) contention: ContentionBackoff,
    /// The callers that wait until it has left.
    leaving: Vec<LeaveReply>,
    loss: Option<Loss>,
    /// The reason why its last step failed.
    error: Option<Error>,
    /// The reason why etcd refuses the wanted value. It stays the reported error while the last accepted value
    /// is put back or moved.
    refusal: Option<Error>,
    // The versions of the wanted value, of the last one sent, and of the one in etcd.
    wanted: ValueVersion,
    sent: ValueVersion,
    stored: ValueVersion,
}

impl Entry {
    pub(super) fn new(owned_key: OwnedKey, shared: Arc<Shared>, version: ValueVersion) -> Self {
        Entry {
            owned_key,
            shared,
            watch: None,
            contention: ContentionBackoff::new(),
            leaving: Vec::new(),
            loss: None,
            error: None,
            refusal: None,
            wanted: version,
            sent: version,
            stored: version,
        }
    }

    pub(super) fn update(&mut self, value: bytes::Bytes, version: ValueVersion) {
        self.wanted = version;
        // The refusal was about the previous value.
        self.error.take_if(|error| refusal::is_final(error.kind()));
        self.refusal = None;
        self.owned_key.update(value);
    }

    pub(super) fn leave(&mut self, reply: LeaveReply) {
        self.leaving.push(reply);
        self.owned_key.leave();
    }

    pub(super) fn begin(&mut self, step: KeyStep) {
        if let KeyStep::Write(..) = step {
            // After a refusal, the last accepted value is written again instead of the wanted one.
            self.sent = match self.owned_key.writes_accepted() {
                true => self.stored,
                false => self.wanted,
            };
        }
        self.owned_key.begin(step);
    }

    pub(super) fn key_lost(&mut self, loss: KeyLoss) {
        self.loss = Some(match loss {
            KeyLoss::Deleted => Loss::KeyDeleted,
            KeyLoss::Overwritten => Loss::Overwritten,
            KeyLoss::Replaced(by) => Loss::Replaced { by },
        });
        self.contention
            .record_loss(Instant::now(), jitter::fraction());
    }

    /// Applies a watch event of its key. Returns whether the event changed anything: most events are
    /// caused by this registrar's own writes, whose answers arrived before.
    pub(super) fn follow(
        &mut self,
        event: &Event,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> bool {
        let before = (self.owned_key.phase, self.owned_key.stored_at());
        let kv = (event.kind() == EventKind::Put).then(|| event.kv().clone());
        if let Some(loss) = self.owned_key.event(event.revision(), kv, leases, &valid) {
            self.key_lost(loss);
        }
        before != (self.owned_key.phase, self.owned_key.stored_at())
    }

    pub(super) fn lease_lost(&mut self, lost: LeaseId, loss: Loss) {
        self.owned_key.lease_lost(lost);
        if self.owned_key.was_held() && self.owned_key.stored_at().is_none() {
            self.loss = Some(loss);
        }
    }

    /// A retired lease is gone. Returns whether its key was attached to it.
    pub(super) fn retired_lost(&mut self, lost: LeaseId) -> bool {
        let was_on_it = self.owned_key.retired_lost(lost);
        if was_on_it && self.owned_key.was_held() {
            self.loss = Some(Loss::LeaseGone);
        }
        was_on_it
    }

    /// Whether its last step was refused because a permission is missing.
    pub(super) fn is_denied(&self) -> bool {
        let error = self.error.as_ref();
        error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    /// etcd refused its step, and no other step was in the transaction.
    pub(super) fn refused(&mut self, error: &Error) {
        let is_wanted = self.owned_key.refused(true);
        self.failed(error);
        if is_wanted {
            self.refusal.clone_from(&self.error);
        }
    }

    /// Its step was not executed, or it is not known whether it was. The cause need not be this step.
    pub(super) fn not_done(&mut self, is_certain: bool) {
        if is_certain {
            // The cause may be another step of the transaction, so the value is not marked as
            // refused.
            self.owned_key.refused(false);
        } else {
            self.owned_key.failed();
        }
    }

    /// Its step failed, and will be sent again.
    pub(super) fn failed(&mut self, error: &Error) {
        let verb = match (self.owned_key.is_leaving(), self.owned_key.stored_at()) {
            (true, _) => "leave",
            (false, Some(_)) => "update",
            (false, None) => "register",
        };
        let about = Operation::about(verb, &self.shared.instance().id);
        self.error = Some(error.clone().operation(about));
    }

    /// The key may not be deleted: it stays until its lease ends.
    pub(super) fn abandon_key(&mut self) {
        self.owned_key.abandon();
    }

    /// Its step was executed. The only error that remains is the refusal of the wanted value.
    pub(super) fn worked(&mut self) {
        self.refusal.take_if(|_| !self.owned_key.is_refused());
        self.error.clone_from(&self.refusal);
    }

    /// Another process holds the key, and [`OnConflict::Fail`](crate::OnConflict::Fail) makes that
    /// final.
    pub(super) fn conflict(&mut self, by: Option<LeaseId>) {
        let reason = match by {
            Some(lease) => format!("it is already registered, under lease {lease}"),
            None => "its key already exists, without a lease".into(),
        };
        let error = Error::new(ErrorKind::Conflict, reason).operation(Operation::new("register"));
        self.shared.refuse(error);
    }

    /// Publishes its state to its handles.
    pub(super) fn publish(&mut self, validity: &Arc<LeaseValidity>, is_unwatched: bool) {
        let state = match self.state(validity) {
            // Without its watch, a deletion of the key would not be noticed.
            State::Registered { valid_until, .. } if is_unwatched => State::Suspect { valid_until },
            state => state,
        };
        let stored_at = self
            .owned_key
            .stored_at()
            .map(|stored_at| stored_at.revision);
        let held_by = match self.owned_key.phase {
            Phase::Yielded { to: by } => Some(by),
            _ => None,
        };
        let error = self.error.clone();
        let error = error.or_else(|| is_unwatched.then(|| self.unwatched_error()));
        self.shared.attach(validity);
        let stored = stored_at.map(|revision| (revision, self.stored.version));
        self.shared.publish(state, stored, held_by, error);
    }

    fn unwatched_error(&self) -> Error {
        let reason = "its key cannot be watched at the moment, so a loss may go unnoticed";
        let about = Operation::about("watch", &self.shared.instance().id);
        Error::new(ErrorKind::Unavailable, reason).operation(about)
    }

    /// Ends the registration, and answers the callers that wait for that.
    pub(super) fn left(&mut self) {
        let outcome = self.error.clone().map_or(Ok(()), Err);
        self.shared.end(outcome.clone());
        for reply in self.leaving.drain(..) {
            reply.complete(outcome.clone());
        }
    }

    fn state(&mut self, validity: &LeaseValidity) -> State {
        if self.owned_key.stored_at().is_some() && self.owned_key.sent_is_there() {
            // The version follows the key: an answer or an event showed that the sent value is in
            // etcd.
            self.stored = self.sent;
        }
        match (self.owned_key.stored_at(), self.owned_key.phase) {
            (Some(stored_at), _) => {
                self.loss = None;
                let valid_until = validity.valid_until();
                if self.stored.status == Status::Draining {
                    State::Draining
                } else if validity.is_suspect() || validity.is_retired() && self.error.is_some() {
                    State::Suspect { valid_until }
                } else {
                    State::Registered {
                        lease: stored_at.lease,
                        revision: stored_at.revision,
                        valid_until,
                    }
                }
            }
            (None, Phase::Yielded { to: by }) if self.owned_key.was_held() => State::Lost {
                why: Loss::Replaced { by },
            },
            (None, _) if self.owned_key.was_held() => State::Lost {
                why: self.loss.unwrap_or(Loss::LeaseGone),
            },
            (None, _) => State::Starting,
        }
    }
}

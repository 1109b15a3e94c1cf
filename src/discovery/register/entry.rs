//! One instance of a registrar: its keys, the state that its handles see, and its last error.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::contention_backoff::ContentionBackoff;
use super::key_phase::KeyLoss;
use super::key_step::KeyStep;
use super::lease_validity::LeaseValidity;
use super::leave_group::LeaveReply;
use super::owned_keys::{DueStep, OwnedKeys};
use super::refusal;
use super::registrar_leases::RegistrarLeases;
use super::registration::{Loss, Shared, State};
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;
use crate::error::{Error, ErrorKind, Operation};
use crate::rpc::watch::{Event, EventKind, WatchKey};
use crate::types::{KeyValue, LeaseId, Revision};
use crate::util::jitter;

/// The status in a value of an instance, and the number of changes before this value.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueVersion {
    status: Status,
    version: u64,
}

impl ValueVersion {
    /// The version of a value; there is no instance while it must not be in etcd.
    pub(super) fn new(instance: Option<&Instance>, version: u64) -> Self {
        let status = instance.map_or(Status::OutOfService, |instance| instance.status);
        ValueVersion { status, version }
    }
}

/// The worker's side of one registration.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) keys: OwnedKeys,
    pub(super) shared: Arc<Shared>,
    /// The watch of each key.
    pub(super) watches: Vec<Option<WatchKey>>,
    pub(super) contention: ContentionBackoff,
    /// The callers that wait until it has left.
    leaving: Vec<LeaveReply>,
    loss: Option<Loss>,
    /// The reason why its last step failed.
    error: Option<Error>,
    /// The reason why etcd refuses the wanted value. It stays the reported error while the last accepted value
    /// is put back or moved.
    refusal: Option<Error>,
    /// The reason why the override of an operator is ignored.
    pub(super) override_error: Option<Error>,
    // The versions of the wanted value, of the last one sent, and of the one in etcd.
    wanted: ValueVersion,
    sent: ValueVersion,
    stored: ValueVersion,
}

impl Entry {
    pub(super) fn new(keys: OwnedKeys, shared: Arc<Shared>, version: ValueVersion) -> Self {
        Entry {
            watches: vec![None; keys.len()],
            keys,
            shared,
            contention: ContentionBackoff::new(),
            leaving: Vec::new(),
            loss: None,
            error: None,
            refusal: None,
            override_error: None,
            wanted: version,
            sent: version,
            stored: version,
        }
    }

    /// Changes the wanted values; a key without a value is withdrawn.
    pub(super) fn update(&mut self, values: Vec<Option<Bytes>>, version: ValueVersion) {
        self.wanted = version;
        // The refusal was about the previous value.
        self.error.take_if(|error| refusal::is_final(error.kind()));
        self.refusal = None;
        self.keys.update(values);
    }

    pub(super) fn leave(&mut self, reply: LeaveReply) {
        self.leaving.push(reply);
        self.keys.leave();
    }

    pub(super) fn begin(&mut self, steps: &[DueStep]) {
        if steps.iter().any(|(_, step)| *step != KeyStep::Read) {
            // After a refusal, the last accepted value is written again instead of the wanted one.
            self.sent = match self.keys.writes_accepted() {
                true => self.stored,
                false => self.wanted,
            };
        }
        self.keys.begin(steps);
    }

    pub(super) fn key_lost(&mut self, loss: KeyLoss, at: Revision) {
        self.loss = Some(match loss {
            KeyLoss::Deleted => Loss::KeyDeleted,
            KeyLoss::Overwritten => Loss::Overwritten,
            KeyLoss::Replaced(by) => Loss::Replaced { by },
        });
        self.contention
            .record_loss(at, Instant::now(), jitter::fraction());
    }

    /// Applies a watch event of one of its keys. Returns whether the event changed anything: most events are
    /// caused by this registrar's own writes, whose answers arrived before.
    pub(super) fn follow(
        &mut self,
        position: usize,
        event: &Event,
        leases: &RegistrarLeases,
        valid: impl Fn(&KeyValue) -> bool,
    ) -> bool {
        let kv = (event.kind() == EventKind::Put).then(|| event.kv().clone());
        let at = event.revision();
        let (loss, is_changed) = self.keys.event(position, at, kv, leases, valid);
        if let Some(loss) = loss {
            self.key_lost(loss, at);
        }
        is_changed
    }

    pub(super) fn lease_lost(&mut self, lost: LeaseId, loss: Loss) {
        self.keys.lease_lost(lost);
        if self.keys.was_held() && self.keys.stored_at().is_none() {
            self.loss = Some(loss);
        }
    }

    /// A retired lease is gone. Returns whether one of its keys was attached to it.
    pub(super) fn retired_lost(&mut self, lost: LeaseId) -> bool {
        let was_on_it = self.keys.retired_lost(lost);
        if was_on_it && self.keys.was_held() {
            self.loss = Some(Loss::LeaseGone);
        }
        was_on_it
    }

    /// The watch of a key has ended, so that events may be missing.
    pub(super) fn forget_watch(&mut self, position: usize) {
        if let Some(watch) = self.watches.get_mut(position) {
            *watch = None;
        }
        self.keys.watch_interrupted(position);
    }

    /// The positions of the keys that must be watched and are not.
    pub(super) fn unwatched(&self) -> impl Iterator<Item = usize> {
        let keys = self.keys.iter().zip(&self.watches).enumerate();
        let keys = keys.filter(|(_, (key, watch))| watch.is_none() && key.watch_after().is_some());
        keys.map(|(position, _)| position)
    }

    /// Whether its last step was refused because a permission is missing.
    pub(super) fn is_denied(&self) -> bool {
        let error = self.error.as_ref();
        error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    /// etcd refused its steps, and no step of another registration was in the transaction.
    pub(super) fn refused(&mut self, error: &Error) {
        let is_wanted = self.keys.refused(true);
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
            self.keys.refused(false);
        } else {
            self.keys.failed();
        }
    }

    /// Its step failed, and will be sent again.
    pub(super) fn failed(&mut self, error: &Error) {
        let verb = match (self.keys.is_leaving(), self.keys.stored_at()) {
            (true, _) => "leave",
            (false, Some(_)) => "update",
            (false, None) => "register",
        };
        let about = Operation::about(verb, &self.shared.instance().id);
        self.error = Some(error.clone().operation(about));
    }

    /// Its keys may not be deleted: they stay until their lease ends.
    pub(super) fn abandon_keys(&mut self) {
        self.keys.abandon();
    }

    /// Its step was executed. The only error that remains is the refusal of the wanted value.
    pub(super) fn worked(&mut self) {
        self.refusal.take_if(|_| !self.keys.is_refused());
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
        let held_by = self.keys.yielded_to();
        let error = self.error.clone().or_else(|| self.override_error.clone());
        let error = error.or_else(|| is_unwatched.then(|| self.unwatched_error()));
        self.shared.attach(validity);
        let is_there = self.keys.stored_at().map(|stored_at| stored_at.revision);
        // A withdrawn instance is in etcd as it is wanted: not at all.
        let is_out = || self.keys.wanted_is_there().then(|| self.keys.known_at());
        let stored = is_there.or_else(is_out);
        let stored = stored.map(|revision| (revision, self.stored.version));
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
        // The version follows the keys: an answer or an event showed what is in etcd.
        if self.keys.wanted_is_there() {
            self.stored = self.wanted;
        } else if self.keys.sent_is_there() {
            self.stored = self.sent;
        }
        if self.keys.is_withdrawn() {
            return State::Withdrawn;
        }
        match (self.keys.stored_at(), self.keys.yielded_to()) {
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
            (None, Some(by)) if self.keys.was_held() => State::Lost {
                why: Loss::Replaced { by },
            },
            (None, _) if self.keys.was_held() => State::Lost {
                why: self.loss.unwrap_or(Loss::LeaseGone),
            },
            (None, _) => State::Starting,
        }
    }
}

//! The keys that a session has in etcd, and those that it must still delete.
//!
//! `key_use` decides which user deletes a key. A deletion can fail while etcd is unreachable and the
//! session lives. The lock would stay held then, so a background task repeats the deletion.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::key_use::{EnterAction, KeyUse, KeyUsers, LeaveAction};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Delete, Get, Txn, TxnResponse};
use crate::runtime::Pending;
use crate::types::{LeaseId, Revision};
use crate::util::backoff::Backoff;
use crate::util::jitter;
use crate::worker::{NextWork, Part};

/// The waits between attempts to delete a key.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// The keys of one session.
#[derive(Debug)]
pub(super) struct SessionKeys {
    client: Client,
    lease: LeaseId,
    keys: Mutex<Keys>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Keys {
    entries: HashMap<Bytes, KeyUsers>,
    has_deletion_task: bool,
}

impl SessionKeys {
    pub(super) fn new(client: Client, lease: LeaseId) -> Self {
        SessionKeys {
            client,
            lease,
            keys: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Counts one more user of a key. A key that is left from an earlier use is deleted first.
    pub(super) fn enter(&self, key: &Bytes, deadline: Instant) -> Result<()> {
        loop {
            let mut keys = self.keys.lock();
            let entry = keys.entries.entry(key.clone()).or_default();
            // The lock on the map is held for the decision only, not during the deletion.
            let key_use = match entry.enter() {
                EnterAction::Entered => return Ok(()),
                EnterAction::Delete(key_use) => key_use,
                EnterAction::Wait => {
                    if self.changed.wait_until(&mut keys, deadline).timed_out() {
                        let reason = "an earlier use of the key is still being deleted";
                        return Err(Error::new(ErrorKind::Timeout, reason));
                    }
                    continue;
                }
            };
            drop(keys);
            let deleted = self.delete(key, key_use, deadline);
            // Also after an error, so that waiting users do not wait forever.
            self.settle(key, deleted.is_err());
            deleted?;
        }
    }

    /// Records that a user that [entered](SessionKeys::enter) has the key that was created at `revision`.
    pub(super) fn created(&self, key: &Bytes, revision: Revision) {
        if let Some(entry) = self.keys.lock().entries.get_mut(key) {
            entry.created(revision);
        }
    }

    /// Removes a user. A user that must delete the key calls [settle](SessionKeys::settle) afterwards; no
    /// other user enters until then.
    pub(super) fn leave(&self, key: &Bytes, key_use: KeyUse, keep: bool) -> LeaveAction {
        let mut keys = self.keys.lock();
        let Some(entry) = keys.entries.get_mut(key) else {
            return LeaveAction::Nothing;
        };
        let leaving = entry.leave(key_use, keep);
        if entry.is_unused() {
            keys.entries.remove(key);
        }
        leaving
    }

    /// Records the result of a deletion. If it is `pending`, the caller starts the deletion task.
    pub(super) fn settle(&self, key: &Bytes, pending: bool) {
        let mut keys = self.keys.lock();
        if let Some(entry) = keys.entries.get_mut(key) {
            entry.settle(pending);
            if entry.is_unused() {
                keys.entries.remove(key);
            }
        }
        drop(keys);
        self.changed.notify_all();
    }

    /// Whether the key in etcd is the one that was created at `revision`.
    pub(super) fn is_there(
        &self,
        key: &Bytes,
        revision: Revision,
        within: Duration,
    ) -> Result<bool> {
        let client = self.client.with_timeout(within.min(self.client.timeout()));
        let found = client.call(Get::key(key.clone()).keys_only())?;
        Ok(found
            .first()
            .is_some_and(|kv| kv.create_revision() == revision))
    }

    /// Deletes a key of this session. Returns `false` when it did not exist any more.
    pub(super) fn delete(&self, key: &Bytes, key_use: KeyUse, deadline: Instant) -> Result<bool> {
        let mut backoff = RETRY_BACKOFF;
        let mut may_exist = key_use == KeyUse::MaybePut;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let client = self.client.with_timeout(left.min(self.client.timeout()));
            match client.txn(self.deletion(key, key_use)) {
                Ok(deleted) => return Ok(deleted.succeeded() || may_exist),
                Err(error) => {
                    // An unanswered attempt may have deleted the key, which a repetition then does
                    // not find.
                    may_exist |= error.outcome_unknown();
                    let pause = backoff.next(jitter::fraction());
                    if !super::is_transient(&error) || Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    std::thread::sleep(pause);
                }
            }
        }
    }

    /// The create_revision is unknown if the put was not answered; then the lease identifies the key.
    fn deletion(&self, key: &Bytes, key_use: KeyUse) -> Txn {
        let ours = match key_use {
            KeyUse::Created(revision) => Compare::create_revision(key.clone()).eq(revision),
            KeyUse::NotPut | KeyUse::MaybePut => Compare::lease(key.clone()).eq(self.lease),
        };
        Txn::when([ours]).then([Delete::key(key.clone())])
    }

    /// Creates the task that deletes pending keys, or returns `None` if there is one already.
    pub(super) fn delete_pending(self: &Arc<Self>) -> Option<Box<dyn Part>> {
        if std::mem::replace(&mut self.keys.lock().has_deletion_task, true) {
            return None;
        }
        Some(Box::new(DeletionTask {
            session_keys: Arc::clone(self),
            deleting: None,
            next: Instant::now(),
            backoff: RETRY_BACKOFF,
        }))
    }

    /// Records that the deletion task has ended or could not start.
    pub(super) fn deletion_task_ended(&self) {
        self.keys.lock().has_deletion_task = false;
    }
}

/// Deletes pending keys one after the other, on the worker.
struct DeletionTask {
    session_keys: Arc<SessionKeys>,
    deleting: Option<(Bytes, KeyUse, Pending<TxnResponse>)>,
    next: Instant,
    backoff: Backoff,
}

impl Part for DeletionTask {
    fn work(&mut self, now: Instant) -> Option<NextWork> {
        if self.session_keys.client.is_closed() {
            return None;
        }
        if let Some((key, key_use, pending)) = self.deleting.take() {
            match pending.try_wait() {
                None => self.deleting = Some((key, key_use, pending)),
                Some(Ok(_)) => {
                    self.session_keys.settle(&key, false);
                    self.backoff.reset();
                }
                Some(Err(error)) => {
                    // A refused deletion is not repeated; the key is deleted with the lease.
                    self.session_keys.settle(&key, super::is_transient(&error));
                    self.next = now + self.backoff.next(jitter::fraction());
                }
            }
        }
        // One deletion at a time, so that an outage costs one request per wait.
        if self.deleting.is_none() && self.next <= now {
            let mut keys = self.session_keys.keys.lock();
            let pending = keys
                .entries
                .iter_mut()
                .find_map(|(key, entry)| Some((key.clone(), entry.take_pending()?)));
            let Some((key, key_use)) = pending else {
                // Under the lock: a key that becomes pending later starts a new task.
                keys.has_deletion_task = false;
                return None;
            };
            drop(keys);
            let pending = self
                .session_keys
                .client
                .submit(self.session_keys.deletion(&key, key_use));
            self.deleting = Some((key, key_use, pending));
        }
        Some(NextWork(self.deleting.is_none().then_some(self.next)))
    }

    fn failed(&mut self, _: &Error) {
        // The next pending key starts another task.
        self.session_keys.deletion_task_ended();
    }

    fn wait(&self, waker: &Waker) {
        if let Some((_, _, pending)) = &self.deleting {
            pending.wake_when_ready(waker);
        }
    }
}

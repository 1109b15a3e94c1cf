//! The keys that a session has in etcd, and those that it still has to delete.
//!
//! `key_use` decides who deletes a key. Deleting can fail while etcd is out of reach, although the
//! session lives on; nobody else would get the lock then, so it is tried again until the key is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Select, TryRecvError};
use parking_lot::{Condvar, Mutex};

use super::key_use::{Entering, KeyUse, KeyUsers, Leaving};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Delete, Get, Txn, TxnResponse};
use crate::runtime::Pending;
use crate::types::{LeaseId, Revision};
use crate::util::backoff::Backoff;
use crate::util::jitter;
use crate::worker::{Next, Part};

/// The waits between attempts to take a key away.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

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
    swept: bool,
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

    /// Counts one more user of a key. What is left of an earlier use is deleted before.
    pub(super) fn enter(&self, key: &Bytes, deadline: Instant) -> Result<()> {
        loop {
            let mut keys = self.keys.lock();
            let entry = keys.entries.entry(key.clone()).or_default();
            let claim = match entry.enter() {
                Entering::Entered => return Ok(()),
                Entering::Delete(claim) => claim,
                Entering::Wait => {
                    if self.changed.wait_until(&mut keys, deadline).timed_out() {
                        let reason = "an earlier use of the key is still being given up";
                        return Err(Error::new(ErrorKind::Timeout, reason));
                    }
                    continue;
                }
            };
            drop(keys);
            let deleted = self.delete(key, claim, deadline);
            self.settle(key, deleted.is_err());
            deleted?;
        }
    }

    /// A user that [entered](SessionKeys::enter) has drawn the key that was created at `revision`.
    pub(super) fn drew(&self, key: &Bytes, revision: Revision) {
        if let Some(entry) = self.keys.lock().entries.get_mut(key) {
            entry.drew(revision);
        }
    }

    /// Counts a user out. One that is to delete the key [settles](SessionKeys::settle) afterwards: nobody
    /// else uses the key until then.
    pub(super) fn leave(&self, key: &Bytes, claim: KeyUse, keep: bool) -> Leaving {
        let mut keys = self.keys.lock();
        let Some(entry) = keys.entries.get_mut(key) else {
            return Leaving::Nothing;
        };
        let leaving = entry.leave(claim, keep);
        if entry.is_over() {
            keys.entries.remove(key);
        }
        leaving
    }

    /// The key is gone, or still owed; in that case the caller sees to it that it is swept.
    pub(super) fn settle(&self, key: &Bytes, owed: bool) {
        let mut keys = self.keys.lock();
        if let Some(entry) = keys.entries.get_mut(key) {
            entry.settle(owed);
            if entry.is_over() {
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

    /// Takes a key of ours away, and nobody else's. `false` when it was not there any more.
    pub(super) fn delete(&self, key: &Bytes, claim: KeyUse, deadline: Instant) -> Result<bool> {
        let mut backoff = AGAIN;
        let mut doubt = claim == KeyUse::Asked;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let client = self.client.with_timeout(left.min(self.client.timeout()));
            match client.txn(self.deletion(key, claim)) {
                Ok(deleted) => return Ok(deleted.succeeded() || doubt),
                Err(error) => {
                    doubt |= error.outcome_unknown();
                    let pause = backoff.next(jitter::fraction());
                    if !super::may_pass(&error) || Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    std::thread::sleep(pause);
                }
            }
        }
    }

    /// A number that is not known belongs to a ticket whose drawing was not answered.
    fn deletion(&self, key: &Bytes, claim: KeyUse) -> Txn {
        let ours = match claim {
            KeyUse::Drawn(revision) => Compare::create_revision(key.clone()).eq(revision),
            KeyUse::None | KeyUse::Asked => Compare::lease(key.clone()).eq(self.lease),
        };
        Txn::when([ours]).then([Delete::key(key.clone())])
    }

    /// What takes away the keys that are owed; `None` when there is such a part already.
    pub(super) fn sweep(self: &Arc<Self>, owner: Receiver<()>) -> Option<Box<dyn Part>> {
        if std::mem::replace(&mut self.keys.lock().swept, true) {
            return None;
        }
        Some(Box::new(Sweep {
            ring: Arc::clone(self),
            owner,
            deleting: None,
            next: Instant::now(),
            backoff: AGAIN,
        }))
    }

    /// The sweeping could not begin.
    pub(super) fn unswept(&self) {
        self.keys.lock().swept = false;
    }
}

/// Takes away what is owed, one key after the other, on the worker.
struct Sweep {
    ring: Arc<SessionKeys>,
    owner: Receiver<()>,
    deleting: Option<(Bytes, KeyUse, Pending<TxnResponse>)>,
    next: Instant,
    backoff: Backoff,
}

impl Part for Sweep {
    fn work(&mut self, now: Instant) -> Option<Next> {
        // The lease is revoked, or left to its end: the keys go with it.
        if self.owner.try_recv() == Err(TryRecvError::Disconnected) || self.ring.client.is_closed()
        {
            return None;
        }
        if let Some((key, claim, pending)) = self.deleting.take() {
            match pending.try_wait() {
                None => self.deleting = Some((key, claim, pending)),
                Some(Ok(_)) => {
                    self.ring.settle(&key, false);
                    self.backoff.reset();
                }
                Some(Err(error)) => {
                    // What is refused once is refused for ever; the lease takes it along.
                    self.ring.settle(&key, super::may_pass(&error));
                    self.next = now + self.backoff.next(jitter::fraction());
                }
            }
        }
        if self.deleting.is_none() && self.next <= now {
            let mut keys = self.ring.keys.lock();
            let owed = keys
                .entries
                .iter_mut()
                .find_map(|(key, entry)| Some((key.clone(), entry.take_owed()?)));
            let Some((key, claim)) = owed else {
                keys.swept = false;
                return None;
            };
            drop(keys);
            let pending = self.ring.client.submit(self.ring.deletion(&key, claim));
            self.deleting = Some((key, claim, pending));
        }
        Some(Next(self.deleting.is_none().then_some(self.next)))
    }

    fn failed(&mut self, _: &Error) {
        // The next key that is owed starts another.
        self.ring.unswept();
    }

    fn wait<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(&self.owner);
        if let Some((_, _, pending)) = &self.deleting {
            select.recv(pending.receiver());
        }
    }
}

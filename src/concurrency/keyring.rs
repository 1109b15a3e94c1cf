//! The keys that a session has in etcd, and those that it still has to take away.
//!
//! A key is named after the lease, so all that want the same lock through one session share one key:
//! it goes with the last of them. Taking it away can fail while etcd is out of reach, although the
//! session lives on; nobody else would get the lock then, so it is tried again until it is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Select, TryRecvError};
use parking_lot::{Condvar, Mutex};

use crate::backoff::Backoff;
use crate::chance;
use crate::client::Client;
use crate::discovery::worker::{Next, Part};
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Compare, Delete, Txn, TxnResponse};
use crate::rt::Pending;
use crate::types::{LeaseId, Revision};

/// The waits between attempts to take a key away.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// The keys of one session.
#[derive(Debug)]
pub(super) struct Keyring {
    client: Client,
    lease: LeaseId,
    keys: Mutex<Keys>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Keys {
    entries: HashMap<Bytes, Entry>,
    swept: bool,
}

/// A key, and who uses it.
#[derive(Debug, Default)]
struct Entry {
    users: usize,
    /// What those who left have put.
    claim: Claim,
    /// Somebody is taking it away right now.
    going: bool,
    /// Nobody uses it, and it is to be taken away.
    owed: bool,
}

/// What somebody has put under a key; what is known better is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// Nothing.
    #[default]
    None,
    /// Perhaps something: the answer is not known.
    Asked,
    /// The key that was created at this revision.
    Drawn(Revision),
}

impl Keyring {
    pub(super) fn new(client: Client, lease: LeaseId) -> Self {
        Keyring {
            client,
            lease,
            keys: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Counts one more user of a key. What is left of an earlier use is taken away before.
    pub(super) fn enter(&self, key: &Bytes, deadline: Instant) -> Result<()> {
        loop {
            let mut keys = self.keys.lock();
            let entry = keys.entries.entry(key.clone()).or_default();
            if entry.going {
                if self.changed.wait_until(&mut keys, deadline).timed_out() {
                    let reason = "an earlier use of the key is still being given up";
                    return Err(Error::new(ErrorKind::Timeout, reason));
                }
                continue;
            }
            if !std::mem::take(&mut entry.owed) {
                entry.users += 1;
                return Ok(());
            }
            entry.going = true;
            let claim = entry.claim;
            drop(keys);
            let deleted = self.delete(key, claim, deadline);
            self.settle(key, deleted.is_err());
            deleted?;
        }
    }

    /// Counts a user out. The last one gets what all of them have put, and is to take it away:
    /// nobody else uses the key until [`settle`](Keyring::settle).
    pub(super) fn leave(&self, key: &Bytes, claim: Claim) -> Option<Claim> {
        let mut keys = self.keys.lock();
        let entry = keys.entries.get_mut(key)?;
        entry.users = entry.users.saturating_sub(1);
        entry.claim = entry.claim.max(claim);
        entry.going = entry.users == 0;
        entry.going.then_some(entry.claim)
    }

    /// The key is gone, or still owed; in that case the caller sees to it that it is swept.
    pub(super) fn settle(&self, key: &Bytes, owed: bool) {
        let mut keys = self.keys.lock();
        if !owed {
            keys.entries.remove(key);
        } else if let Some(entry) = keys.entries.get_mut(key) {
            (entry.going, entry.owed) = (false, true);
        }
        drop(keys);
        self.changed.notify_all();
    }

    /// Takes a key of ours away, and nobody else's. `false` when it was not there any more.
    pub(super) fn delete(&self, key: &Bytes, claim: Claim, deadline: Instant) -> Result<bool> {
        let mut backoff = AGAIN;
        let mut doubt = claim == Claim::Asked;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let client = self.client.with_timeout(left.min(self.client.timeout()));
            match client.txn(self.deletion(key, claim)) {
                Ok(deleted) => return Ok(deleted.succeeded() || doubt),
                Err(error) => {
                    doubt |= error.outcome_unknown();
                    let pause = backoff.next(chance::fraction());
                    if !super::may_pass(&error) || Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    std::thread::sleep(pause);
                }
            }
        }
    }

    /// A number that is not known belongs to a ticket whose drawing was not answered.
    fn deletion(&self, key: &Bytes, claim: Claim) -> Txn {
        let ours = match claim {
            Claim::Drawn(revision) => Compare::create_revision(key.clone()).eq(revision),
            Claim::None | Claim::Asked => Compare::lease(key.clone()).eq(self.lease),
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
    ring: Arc<Keyring>,
    owner: Receiver<()>,
    deleting: Option<(Bytes, Claim, Pending<TxnResponse>)>,
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
                    self.next = now + self.backoff.next(chance::fraction());
                }
            }
        }
        if self.deleting.is_none() && self.next <= now {
            let mut keys = self.ring.keys.lock();
            let owed = keys.entries.iter_mut().find_map(|(key, entry)| {
                let owed = std::mem::take(&mut entry.owed);
                entry.going |= owed;
                owed.then(|| (key.clone(), entry.claim))
            });
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

    fn wait<'a>(&'a self, select: &mut Select<'a>) {
        select.recv(&self.owner);
        if let Some((_, _, pending)) = &self.deleting {
            select.recv(pending.receiver());
        }
    }
}

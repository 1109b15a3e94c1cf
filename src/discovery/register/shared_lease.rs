//! The one lease of a registrar: granted, kept alive, and granted anew when it is gone.
//!
//! A grant whose outcome is not known is repeated under the same id, and finds the lease if it was
//! made; one that is given up is revoked. So no lease is left over that nobody knows of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Select, TryRecvError};

use super::lease_validity::LeaseValidity;
use super::registration::Loss;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::rpc::lease::{Deadline, Grant, KeepAlive, Lease, Revoke};
use crate::runtime::Pending;
use crate::types::LeaseId;
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The wait between grants that fail; a grant itself takes its time to give up.
const BETWEEN_GRANTS: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

#[derive(Debug)]
pub(super) struct SharedLease {
    client: Client,
    ttl: Duration,
    stage: Stage,
    backoff: Backoff,
    validity: Arc<LeaseValidity>,
    /// The grant of a lease that may exist, because it was sent and not answered.
    in_doubt: Option<InDoubt>,
}

#[derive(Debug)]
enum Stage {
    None {
        retry_at: Option<Instant>,
    },
    Granting {
        reply: Pending<Lease>,
        since: Instant,
    },
    Held(KeepAlive),
}

#[derive(Debug)]
struct InDoubt {
    grant: Grant,
    id: LeaseId,
    /// Until when the lease surely lives, if there is one.
    until: Deadline,
}

/// What happened to the lease.
#[derive(Debug)]
pub(super) enum LeaseEvent {
    None,
    Granted(LeaseId),
    Lost(Loss),
    /// It could not be granted; it will be tried again.
    Trouble(Error),
}

impl SharedLease {
    pub(super) fn new(client: Client, ttl: Duration, validity: Arc<LeaseValidity>) -> Self {
        SharedLease {
            client,
            ttl,
            stage: Stage::None { retry_at: None },
            backoff: BETWEEN_GRANTS,
            validity,
            in_doubt: None,
        }
    }

    /// Does what is due; a lease is granted only when it is wanted.
    pub(super) fn work(&mut self, now: Instant, wanted: bool) -> LeaseEvent {
        match &mut self.stage {
            Stage::None { retry_at } => {
                if retry_at.is_some_and(|at| at > now) {
                    return LeaseEvent::None;
                }
                // Nothing is due any more, whether or not a lease is wanted.
                *retry_at = None;
                if wanted {
                    self.grant(now);
                }
                LeaseEvent::None
            }
            Stage::Granting { reply, .. } => match reply.try_wait() {
                None => LeaseEvent::None,
                Some(Ok(lease)) => self.granted(lease.id(), now),
                Some(Err(error)) => self.retry(error, now),
            },
            Stage::Held(keep) => match follow(keep, &self.validity) {
                Ok(()) => LeaseEvent::None,
                Err(loss) => {
                    self.stage = Stage::None { retry_at: None };
                    self.validity.lost();
                    LeaseEvent::Lost(loss)
                }
            },
        }
    }

    fn grant(&mut self, now: Instant) {
        // A lease of an earlier try that would have to be renewed by now is of no use.
        if self
            .in_doubt
            .as_ref()
            .is_some_and(|old| old.until.has_passed())
        {
            self.abandon();
        }
        let ttl = self.ttl;
        let grant = self.in_doubt.get_or_insert_with(|| {
            // The server counts from when it grants, which is later.
            let until = Deadline::after(ttl);
            let (grant, id) = Grant::ttl(ttl).with_random_id();
            InDoubt { grant, id, until }
        });
        let reply = self.client.submit(grant.grant.clone());
        self.stage = Stage::Granting { reply, since: now };
    }

    fn granted(&mut self, id: LeaseId, now: Instant) -> LeaseEvent {
        let granted = self.in_doubt.as_ref();
        let until = granted.map_or(Deadline::PASSED, |granted| granted.until);
        // The first renewal has as long as the grant lasts: a lease that lives is not given up
        // because the client's timeout is shorter.
        let patience = until.remaining().max(self.client.timeout());
        match self.client.with_timeout(patience).keep_alive(id) {
            Ok(keep) => {
                self.backoff.reset();
                self.in_doubt = None;
                self.stage = Stage::Held(keep);
                self.validity.granted(until, now);
                LeaseEvent::Granted(id)
            }
            Err(error) => self.retry(error, now),
        }
    }

    /// Revokes the lease that may exist. Nobody waits for the answer: without it the lease ends by
    /// itself.
    fn abandon(&mut self) {
        if let Some(old) = self.in_doubt.take() {
            drop(self.client.submit(Revoke::new(old.id)));
        }
    }

    fn retry(&mut self, error: Error, now: Instant) -> LeaseEvent {
        self.stage = Stage::None {
            retry_at: Some(now + self.backoff.next(jitter::fraction())),
        };
        LeaseEvent::Trouble(error)
    }

    /// The server does not know the lease: it is of no use.
    pub(super) fn give_up(&mut self, now: Instant) {
        if let Stage::Held(_) = self.stage {
            self.stage = Stage::None {
                retry_at: Some(now),
            };
            self.validity.lost();
        }
    }

    /// Since when a grant is not answered.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Granting { since, .. } => Some(*since),
            Stage::None { .. } | Stage::Held(_) => None,
        }
    }

    /// When to look again, if nothing arrives.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match &self.stage {
            Stage::None { retry_at } => *retry_at,
            Stage::Granting { .. } => None,
            // The moment at which it becomes suspect.
            Stage::Held(_) if !self.validity.is_suspect() => {
                Some(now + self.validity.suspect_in() + Duration::from_millis(1))
            }
            Stage::Held(_) => None,
        }
    }

    pub(super) fn wait<'a>(&'a self, select: &mut Select<'a>) {
        match &self.stage {
            Stage::None { .. } => {}
            Stage::Granting { reply, .. } => drop(select.recv(reply.receiver())),
            Stage::Held(keep) => drop(select.recv(keep.receiver())),
        }
    }
}

impl Drop for SharedLease {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Reads the renewals that have come.
fn follow(keep: &KeepAlive, validity: &LeaseValidity) -> Result<(), Loss> {
    loop {
        match keep.receiver().try_recv() {
            Ok(Ok(renewal)) => validity.renewed(renewal.deadline(), renewal.ttl()),
            Ok(Err(gone)) if gone.kind() == ErrorKind::LeaseNotFound => {
                return Err(Loss::LeaseGone);
            }
            Ok(Err(_)) | Err(TryRecvError::Disconnected) => return Err(Loss::Unreachable),
            Err(TryRecvError::Empty) => return Ok(()),
        }
    }
}

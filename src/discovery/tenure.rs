//! The one lease of a registrar: granted, kept alive, and granted anew when it is gone.

use std::time::{Duration, Instant};

use crossbeam_channel::{Select, TryRecvError};

use super::registration::Loss;
use crate::backoff::Backoff;
use crate::chance;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::lease::{Deadline, Grant, KeepAlive, Lease};
use crate::rt::Pending;
use crate::types::LeaseId;

/// The wait between grants that fail; a grant itself takes its time to give up.
const BETWEEN_GRANTS: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

#[derive(Debug)]
pub(super) struct Tenure {
    client: Client,
    ttl: Duration,
    stage: Stage,
    backoff: Backoff,
}

#[derive(Debug)]
enum Stage {
    None {
        retry_at: Option<Instant>,
    },
    Granting {
        reply: Pending<Lease>,
        until: Deadline,
    },
    Held(Held),
}

#[derive(Debug)]
struct Held {
    keep: KeepAlive,
    ttl: Duration,
    until: Deadline,
}

/// What happened to the lease.
#[derive(Debug)]
pub(super) enum Tidings {
    None,
    Granted(LeaseId),
    Lost(Loss),
    /// It could not be granted; it will be tried again.
    Trouble(Error),
}

impl Tenure {
    pub(super) fn new(client: Client, ttl: Duration) -> Self {
        Tenure {
            client,
            ttl,
            stage: Stage::None { retry_at: None },
            backoff: BETWEEN_GRANTS,
        }
    }

    /// Does what is due; a lease is granted only when it is wanted.
    pub(super) fn work(&mut self, now: Instant, wanted: bool) -> Tidings {
        match &mut self.stage {
            Stage::None { retry_at } => {
                if retry_at.is_some_and(|at| at > now) {
                    return Tidings::None;
                }
                // Nothing is due any more, whether or not a lease is wanted.
                *retry_at = None;
                if wanted {
                    // The server counts from when it grants, which is later.
                    let until = Deadline::after(self.ttl);
                    // Whoever waits to be registered waits as long as the client's timeout. A grant
                    // that gives up sooner, and is repeated, lets them know what the trouble was.
                    let patience = self.client.timeout() / 2;
                    let reply = self
                        .client
                        .with_timeout(patience)
                        .submit(Grant::ttl(self.ttl));
                    self.stage = Stage::Granting { reply, until };
                }
                Tidings::None
            }
            Stage::Granting { reply, until } => match reply.try_wait() {
                None => Tidings::None,
                Some(Ok(lease)) => {
                    let until = *until;
                    self.granted(&lease, until, now)
                }
                Some(Err(error)) => self.trouble(error, now),
            },
            Stage::Held(held) => match held.follow() {
                Ok(()) => Tidings::None,
                Err(loss) => {
                    self.stage = Stage::None { retry_at: None };
                    Tidings::Lost(loss)
                }
            },
        }
    }

    fn granted(&mut self, lease: &Lease, until: Deadline, now: Instant) -> Tidings {
        match self.client.keep_alive(lease.id()) {
            Ok(keep) => {
                self.backoff.reset();
                self.stage = Stage::Held(Held {
                    keep,
                    ttl: lease.ttl(),
                    until,
                });
                Tidings::Granted(lease.id())
            }
            Err(error) => self.trouble(error, now),
        }
    }

    fn trouble(&mut self, error: Error, now: Instant) -> Tidings {
        self.stage = Stage::None {
            retry_at: Some(now + self.backoff.next(chance::fraction())),
        };
        Tidings::Trouble(error)
    }

    /// The server does not know the lease: it is of no use.
    pub(super) fn give_up(&mut self, now: Instant) {
        if let Stage::Held(_) = self.stage {
            self.stage = Stage::None {
                retry_at: Some(now),
            };
        }
    }

    pub(super) fn valid_until(&self) -> Deadline {
        match &self.stage {
            Stage::Held(held) => held.until,
            Stage::None { .. } | Stage::Granting { .. } => Deadline::PASSED,
        }
    }

    /// Whether renewals that should have come did not: they come after a third of the time.
    pub(super) fn is_suspect(&self) -> bool {
        match &self.stage {
            Stage::Held(held) => held.until.remaining() < held.ttl / 2,
            Stage::None { .. } | Stage::Granting { .. } => true,
        }
    }

    /// When to look again, if nothing arrives.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match &self.stage {
            Stage::None { retry_at } => *retry_at,
            Stage::Granting { .. } => None,
            // The moment at which it becomes suspect.
            Stage::Held(held) if !self.is_suspect() => Some(
                now + held.until.remaining().saturating_sub(held.ttl / 2)
                    + Duration::from_millis(1),
            ),
            Stage::Held(_) => None,
        }
    }

    pub(super) fn wait<'a>(&'a self, select: &mut Select<'a>) {
        match &self.stage {
            Stage::None { .. } => {}
            Stage::Granting { reply, .. } => drop(select.recv(reply.receiver())),
            Stage::Held(held) => drop(select.recv(held.keep.receiver())),
        }
    }
}

impl Held {
    fn follow(&mut self) -> Result<(), Loss> {
        loop {
            match self.keep.receiver().try_recv() {
                Ok(Ok(renewal)) => {
                    self.until = renewal.deadline();
                    self.ttl = renewal.ttl();
                }
                Ok(Err(gone)) if gone.kind() == ErrorKind::LeaseNotFound => {
                    return Err(Loss::LeaseGone);
                }
                Ok(Err(_)) | Err(TryRecvError::Disconnected) => return Err(Loss::Unreachable),
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }
}

//! Grants the lease of a registrar, keeps it alive, and grants another when it is lost.
//!
//! A grant whose outcome is unknown is repeated with the same id, and finds the lease if the first
//! attempt created it. If it is abandoned, the lease is revoked. So no unknown lease is left behind.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::lease_validity::LeaseValidity;
use super::registration::Loss;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::rpc::lease::{Deadline, Grant, KeepAlive, Lease, LeaseView, Revoke};
use crate::runtime::Pending;
use crate::types::LeaseId;
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The wait between failed grants. It is counted from the beginning of a grant, so that one that was not
/// answered until its timeout is repeated at once: the dials to etcd have waits of their own.
const GRANT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1500));

/// The lease of a registrar.
#[derive(Debug)]
pub(super) struct SharedLease {
    client: Client,
    ttl: Duration,
    stage: Stage,
    backoff: Backoff,
    validity: Arc<LeaseValidity>,
    /// A grant that was sent and not answered, so that its lease may exist.
    unconfirmed: Option<UnconfirmedGrant>,
    /// The time over which grants after an outage are spread.
    spread: Duration,
    /// The last lease ended in an outage, which may have ended all other leases too.
    after_outage: bool,
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
    Held {
        keep: KeepAlive,
        seen: LeaseView,
    },
}

#[derive(Debug)]
struct UnconfirmedGrant {
    grant: Grant,
    id: LeaseId,
    /// The time until which the lease lives at least, if it exists.
    until: Deadline,
}

/// A change of the lease.
#[derive(Debug)]
pub(super) enum LeaseEvent {
    None,
    Granted(LeaseId),
    Lost(Loss),
    /// It is no longer renewed, and may live until the end that its grant or last renewal set.
    Unrenewed,
    /// The grant failed, and will be repeated.
    GrantFailed(Error),
}

impl SharedLease {
    pub(super) fn new(client: Client, ttl: Duration, validity: Arc<LeaseValidity>) -> Self {
        SharedLease {
            client,
            ttl,
            stage: Stage::None { retry_at: None },
            backoff: GRANT_BACKOFF,
            validity,
            unconfirmed: None,
            spread: Duration::ZERO,
            after_outage: false,
        }
    }

    /// Sets the time over which grants after an outage are spread.
    pub(super) fn set_spread(&mut self, spread: Duration) {
        self.spread = spread;
    }

    /// Does what is due, and returns what changed. A lease is granted only if it is `wanted`.
    pub(super) fn work(&mut self, now: Instant, wanted: bool) -> LeaseEvent {
        match &mut self.stage {
            Stage::None { retry_at } => {
                if retry_at.is_some_and(|at| at > now) {
                    return LeaseEvent::None;
                }
                // Otherwise `due` would return a time in the past for ever.
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
            Stage::Held { keep, seen } => {
                *seen = keep.view();
                let Some(why) = keep.ended() else {
                    return LeaseEvent::None;
                };
                let event = renewals_ended(why.kind(), self.validity.valid_until().has_passed());
                match event {
                    LeaseEvent::Lost(_) => self.lost(now),
                    _ => self.stage = Stage::None { retry_at: None },
                }
                event
            }
        }
    }

    fn grant(&mut self, now: Instant) {
        // The lease of an earlier attempt may have expired.
        if self
            .unconfirmed
            .as_ref()
            .is_some_and(|old| old.until.has_passed())
        {
            self.abandon();
        }
        let ttl = self.ttl;
        let grant = self.unconfirmed.get_or_insert_with(|| {
            // The server counts from its own grant, which is later.
            let until = Deadline::after(ttl);
            let (grant, id) = Grant::ttl(ttl).with_random_id();
            UnconfirmedGrant { grant, id, until }
        });
        // With the id of an unanswered grant, this finds its lease or grants it now.
        let reply = self.client.submit(grant.grant.clone());
        self.stage = Stage::Granting { reply, since: now };
    }

    fn granted(&mut self, id: LeaseId, now: Instant) -> LeaseEvent {
        let granted = self.unconfirmed.as_ref();
        let until = granted.map_or(Deadline::PASSED, |granted| granted.until);
        // The first renewal may take until the lease expires, even if the client's timeout is
        // shorter.
        let timeout = until.remaining().max(self.client.timeout());
        match self.client.with_timeout(timeout).keep_alive(id) {
            Ok(keep) => {
                self.backoff.reset();
                self.after_outage = false;
                self.unconfirmed = None;
                self.validity.granted(until, now, keep.waiter());
                let seen = LeaseView::GRANTED;
                self.stage = Stage::Held { keep, seen };
                LeaseEvent::Granted(id)
            }
            Err(error) => self.retry(error, now),
        }
    }

    /// Revokes the lease that may exist, and does not wait for the answer. If the revoke fails, the
    /// lease expires.
    fn abandon(&mut self) {
        if let Some(old) = self.unconfirmed.take() {
            // Not awaited: if it fails, the lease expires.
            drop(self.client.submit(Revoke::new(old.id)));
        }
    }

    fn retry(&mut self, error: Error, now: Instant) -> LeaseEvent {
        let since = self.waits_since().unwrap_or(now);
        let again = since + self.backoff.next(jitter::fraction());
        self.stage = Stage::None {
            retry_at: Some(again.max(now + self.spread_wait())),
        };
        LeaseEvent::GrantFailed(error)
    }

    /// A wait after an outage, from which all clients return at the same time.
    fn spread_wait(&self) -> Duration {
        match self.after_outage {
            true => self.spread.mul_f64(jitter::fraction()),
            false => Duration::ZERO,
        }
    }

    /// Records that the lease is lost.
    fn lost(&mut self, now: Instant) {
        // A lease that was renewed until now was lost alone, such as by a revoke.
        self.after_outage |= self.validity.is_suspect();
        self.validity.lost();
        self.stage = Stage::None {
            retry_at: Some(now + self.spread_wait()),
        };
    }

    /// Drops the lease, which does not exist on the server.
    pub(super) fn give_up(&mut self, now: Instant) {
        if let Stage::Held { .. } = self.stage {
            self.lost(now);
        }
    }

    /// The time at which the unanswered grant was sent.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Granting { since, .. } => Some(*since),
            Stage::None { .. } | Stage::Held { .. } => None,
        }
    }

    /// The time at which [`work`](SharedLease::work) is due, if nothing arrives earlier.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match &self.stage {
            Stage::None { retry_at } => *retry_at,
            Stage::Granting { .. } => None,
            // When it becomes suspect without a first renewal. Later, a late renewal wakes the worker.
            Stage::Held { seen, .. } if *seen == LeaseView::GRANTED => {
                let is_suspect = self.validity.is_suspect();
                let suspect_in = self.validity.suspect_in() + Duration::from_millis(1);
                (!is_suspect).then(|| now + suspect_in)
            }
            Stage::Held { .. } => None,
        }
    }

    pub(super) fn wait(&self, waker: &Waker) {
        match &self.stage {
            Stage::None { .. } => {}
            Stage::Granting { reply, .. } => reply.wake_when_ready(waker),
            Stage::Held { keep, seen } => keep.wake_on_change(*seen, waker),
        }
    }
}

/// What the end of the renewals shows about the lease. Renewals also end when the first one is refused:
/// by a failing TLS handshake, or by etcd while a key that the user may not write is attached to the lease.
/// Such a lease lives on for its time.
fn renewals_ended(why: ErrorKind, has_expired: bool) -> LeaseEvent {
    match why {
        ErrorKind::LeaseNotFound => LeaseEvent::Lost(Loss::LeaseGone),
        ErrorKind::PermissionDenied | ErrorKind::Tls if !has_expired => LeaseEvent::Unrenewed,
        _ => LeaseEvent::Lost(Loss::Unreachable),
    }
}

impl Drop for SharedLease {
    fn drop(&mut self) {
        self.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fault: N6
    #[test]
    fn a_lease_whose_first_renewal_is_refused_is_not_lost_before_its_end() {
        use ErrorKind::{Closed, LeaseExpired, LeaseNotFound, PermissionDenied, Timeout, Tls};
        for kind in [PermissionDenied, Tls] {
            let event = renewals_ended(kind, false);
            assert!(matches!(event, LeaseEvent::Unrenewed), "{kind:?}");
            let event = renewals_ended(kind, true);
            assert!(
                matches!(event, LeaseEvent::Lost(Loss::Unreachable)),
                "{kind:?}"
            );
        }
        for kind in [LeaseExpired, Timeout, Closed] {
            let event = renewals_ended(kind, false);
            assert!(
                matches!(event, LeaseEvent::Lost(Loss::Unreachable)),
                "{kind:?}"
            );
        }
        let event = renewals_ended(LeaseNotFound, false);
        assert!(matches!(event, LeaseEvent::Lost(Loss::LeaseGone)));
    }
}

//! Granting a lease.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::maybe_executed::MaybeExecuted;
use super::orphan_cleanup;
use super::time_to_live::TimeToLive;
use super::ttl_seconds::ttl_from_seconds;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse};
use crate::grpc::{Call, Framed, Transport};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::types::{LeaseId, ResponseHeader};
use crate::util::jitter;

/// The longest time to live that etcd accepts, in seconds: `MaxLeaseTTL`, about 285 years.
const MAX_TTL: u64 = 9_000_000_000;

/// Grants a lease.
///
/// [`Put::lease`](crate::Put::lease) attaches keys to the lease. They are deleted when the lease ends:
/// when its time to live passes without a renewal, or when it is revoked.
///
/// The client chooses a random id, and not the server. So a grant is repeated until it is answered,
/// and a repetition finds the lease of an attempt whose answer was lost. When the call fails although
/// the server may have executed it, the client revokes that id in the background: a failed grant
/// leaves no lease, unless the client is closed before that; then the lease expires.
///
/// [`with_random_id`](Grant::with_random_id) returns the id before the call, for callers that repeat
/// the grant, or revoke the lease, themselves.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, Put};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let lease = client.grant(Duration::from_secs(10))?;
/// client.call(Put::new("svc/a", "10.0.0.1:80").lease(lease.id()))?;
/// let alive = client.keep_alive(lease.id())?;
/// for renewal in alive.receiver() {
///     println!("renewed for {:?}", renewal?.ttl());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Grant {
    ttl: Duration,
    id: IdChoice,
}

/// The choice of the lease id.
#[derive(Clone, Copy, Debug, PartialEq)]
enum IdChoice {
    /// Each call chooses a random id of its own, which the caller does not know before the answer.
    Random,
    /// A random id that the caller has too. No other lease has it.
    Known(LeaseId),
    /// An id that the caller chose. Another lease may have it.
    Given(LeaseId),
}

impl Grant {
    /// Grants a lease with this time to live: 1 s to 9,000,000,000 s, in whole seconds (rounded up).
    /// The server may extend it: see [`Lease::ttl`].
    pub fn ttl(ttl: Duration) -> Self {
        let id = IdChoice::Random;
        Grant { ttl, id }
    }

    /// Sets the id of the lease, instead of a random one.
    ///
    /// The call fails with [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when a lease with this
    /// id exists, even if an attempt of this call granted it and the answer was lost. After an
    /// [unknown outcome](crate::Error::outcome_unknown) nothing is revoked.
    pub fn id(mut self, id: LeaseId) -> Self {
        self.id = IdChoice::Given(id);
        self
    }

    /// Chooses a random id for the lease, and returns it with the grant.
    ///
    /// No other lease has this id, so a clone of the grant can be called again when the outcome is
    /// unknown: it returns the lease that an earlier call granted, whose time to live counts from the
    /// earlier call. Nothing is revoked in the background: a caller that stops trying revokes the id.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use etcd_blocking::{Client, Grant};
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// let (grant, id) = Grant::ttl(Duration::from_secs(10)).with_random_id();
    /// let mut granted = client.call(grant.clone());
    /// if granted.as_ref().is_err_and(|error| error.outcome_unknown()) {
    ///     granted = client.call(grant);
    /// }
    /// assert_eq!(granted?.id(), id);
    /// # Ok(()) }
    /// ```
    pub fn with_random_id(mut self) -> (Self, LeaseId) {
        let id = random_id();
        self.id = IdChoice::Known(id);
        (self, id)
    }

    fn seconds(&self) -> u64 {
        // Rounded up: the lease must not end before the requested time.
        let more = u64::from(self.ttl.subsec_nanos() > 0);
        self.ttl.as_secs().saturating_add(more)
    }

    fn message(&self) -> LeaseGrantRequest {
        LeaseGrantRequest {
            ttl: i64::try_from(self.seconds()).unwrap_or(i64::MAX),
            id: match self.id {
                IdChoice::Random => 0,
                IdChoice::Known(id) | IdChoice::Given(id) => id.get(),
            },
        }
    }
}

impl Rpc for Grant {
    type Response = Lease;

    fn operation(&self) -> Operation {
        Operation::new("grant")
    }

    fn check(&self) -> Result<()> {
        if self.ttl.is_zero() {
            return Err(Error::invalid(
                "the time to live of a lease is zero: use 1 s or more",
            ));
        }
        if self.seconds() > MAX_TTL {
            let reason = format!(
                "the time to live of a lease is more than {MAX_TTL} s, the longest that etcd accepts"
            );
            return Err(Error::invalid(reason));
        }
        Ok(())
    }

    fn writes(&self) -> bool {
        true
    }

    fn encoded_len(&self) -> usize {
        self.message().encoded_len()
    }

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    async fn execute(self, transport: Arc<Transport>, timeout: Duration) -> Result<Lease> {
        let (id, is_unique) = match self.id {
            IdChoice::Random => (random_id(), false),
            // An id from `with_random_id` is the caller's, so a lease with it is the caller's too.
            IdChoice::Known(id) => (id, true),
            IdChoice::Given(id) => (id, false),
        };
        let sent = Grant {
            id: IdChoice::Given(id),
            ..self
        };
        let (request, maybe_executed) = (Framed::new(&sent.message()), MaybeExecuted::default());
        let granting = Arc::clone(&transport).repeat(
            Call::read(timeout),
            || Operation::new("grant"),
            |connection| {
                maybe_executed
                    .clone()
                    .attempt(connection.unary(request.clone()))
            },
        );
        let granted = match granting.await {
            Ok(pb) => return Lease::read(pb),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // There are 2^63 random ids: a lease with this one is from an earlier attempt.
                if is_unique || self.id == IdChoice::Random && maybe_executed.get() {
                    find(id, Arc::clone(&transport), timeout).await
                } else {
                    return Err(error);
                }
            }
            Err(error) => Err(error.unknown_outcome(maybe_executed.get())),
        };
        // The caller does not have the id, so only this call can revoke the lease.
        if granted.is_err() && self.id == IdChoice::Random && maybe_executed.get() {
            orphan_cleanup::revoke_orphan(&transport, id, self.ttl);
        }
        granted
    }
}

/// Finds the lease of an attempt whose answer was lost.
async fn find(id: LeaseId, transport: Arc<Transport>, timeout: Duration) -> Result<Lease> {
    let found = TimeToLive::new(id).execute(transport, timeout).await;
    let named = |error: Error| error.operation(Operation::new("grant"));
    let found = found.map_err(|error| named(error.unknown_outcome(true)))?;
    // Its time ran out between the two answers.
    if found.remaining().is_none() {
        let reason = "the lease that an earlier attempt granted expired before it was found";
        return Err(named(Error::new(ErrorKind::LeaseExpired, reason)));
    }
    Ok(Lease {
        header: *found.header(),
        id,
        ttl: found.granted(),
    })
}

/// A random positive id, as the server would choose it. It is unique also among processes that start
/// at the same time, and in a forked child.
fn random_id() -> LeaseId {
    loop {
        // Lease ids are positive: the sign bit is cleared.
        let random = jitter::number() >> 1;
        if let Some(id) = i64::try_from(random).ok().and_then(LeaseId::new) {
            return id;
        }
    }
}

/// A granted lease. It is a plain value: dropping it does not revoke the lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    header: ResponseHeader,
    id: LeaseId,
    ttl: Duration,
}

impl Lease {
    fn read(pb: LeaseGrantResponse) -> Result<Self> {
        let refused = |reason: String| Error::protocol(reason).operation(Operation::new("grant"));
        if !pb.error.is_empty() {
            return Err(refused("the response to a grant has an error".to_owned()));
        }
        let id = LeaseId::new(pb.id)
            .ok_or_else(|| refused("the response to a grant has no lease id".to_owned()))?;
        let ttl = ttl_from_seconds(pb.ttl).filter(|ttl| !ttl.is_zero());
        Ok(Lease {
            header: header(pb.header),
            id,
            ttl: ttl.ok_or_else(|| {
                refused(format!(
                    "the response to a grant has a time to live of {} s",
                    pb.ttl
                ))
            })?,
        })
    }

    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The id of the lease, for [`Put::lease`](crate::Put::lease) and [`Client::keep_alive`](crate::Client::keep_alive).
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The time to live without a renewal. The server may extend the requested one: it is at least one
    /// and a half election timeouts (2 s with default settings).
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_to_whole_seconds() {
        let wire = |ttl| Grant::ttl(ttl).message().ttl;
        assert_eq!(wire(Duration::from_nanos(1)), 1);
        assert_eq!(wire(Duration::from_secs(1)), 1);
        assert_eq!(wire(Duration::from_millis(1001)), 2);
    }

    #[test]
    fn invalid_ttls_are_refused_before_sending() {
        for ttl in [
            Duration::ZERO,
            Duration::from_secs(MAX_TTL + 1),
            Duration::from_millis(MAX_TTL * 1000 + 1),
            Duration::MAX,
        ] {
            let refused = Grant::ttl(ttl).check().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{ttl:?}");
        }
        assert!(Grant::ttl(Duration::from_secs(MAX_TTL)).check().is_ok());
    }

    #[test]
    fn random_ids_are_positive_and_differ() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| random_id().get()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| *id > 0));
        assert!(ids.iter().any(|id| *id > i64::MAX / 2));
    }

    #[test]
    fn a_response_without_a_lease_is_a_protocol_error() {
        let answer = |id, ttl| {
            Lease::read(LeaseGrantResponse {
                id,
                ttl,
                ..LeaseGrantResponse::default()
            })
        };
        assert!(answer(7, 2).is_ok());
        for (id, ttl) in [(0, 2), (7, 0), (7, -1)] {
            assert_eq!(answer(id, ttl).unwrap_err().kind(), ErrorKind::Protocol);
        }
    }
}

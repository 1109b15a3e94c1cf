//! Making a lease.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::maybe_executed::MaybeExecuted;
use super::{TimeToLive, abandoned, living};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse};
use crate::grpc::{Call, Framed, Transport};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::types::{LeaseId, ResponseHeader};
use crate::util::jitter;

/// The longest time to live that etcd takes: `MaxLeaseTTL`, some 285 years.
const LONGEST: u64 = 9_000_000_000;

/// Makes a lease.
///
/// Keys are hung on it with [`Put::lease`](crate::Put::lease) and are deleted when it ends: when its
/// time to live passes without a renewal, or when it is revoked.
///
/// The client chooses the id, at random, and not the server. So a grant is repeated until it is
/// answered, and a repetition finds the lease of an attempt whose answer was lost. When the call
/// fails although the server may have executed it, the client revokes that id in the background:
/// a failed grant leaves no lease behind, unless the client is closed before; then it expires.
///
/// [`with_random_id`](Grant::with_random_id) tells the id before the answer, for callers that want
/// to call again, or to revoke, themselves.
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
///     println!("good for {:?}", renewal?.ttl());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Grant {
    ttl: Duration,
    id: Id,
}

/// The id of the lease, and who knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Id {
    /// Each call chooses a random one of its own, which nobody knows before the answer.
    Random,
    /// A random one that the caller knows: no other lease has it.
    Known(LeaseId),
    /// Any number: another lease may have it.
    Given(LeaseId),
}

impl Grant {
    /// A lease that lives this long without a renewal: 1 s to 9,000,000,000 s, counted in whole
    /// seconds (rounded up). The server may make it longer: see [`Lease::ttl`].
    pub fn ttl(ttl: Duration) -> Self {
        let id = Id::Random;
        Grant { ttl, id }
    }

    /// Gives the lease this id, and not a random one.
    ///
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when there is a lease with this id, be it
    /// from an attempt of this same grant whose answer was lost: who chooses ids knows their own.
    /// After an [unknown outcome](crate::Error::outcome_unknown) nothing is revoked.
    pub fn id(mut self, id: LeaseId) -> Self {
        self.id = Id::Given(id);
        self
    }

    /// Chooses a random id for the lease now, and returns it beside the grant.
    ///
    /// No other lease has this id, so the grant can be called again, as a clone, when the outcome is
    /// unknown: it returns the lease that an earlier call granted. That lease's time to live counts
    /// from the earlier call. Who gives up instead revokes the id; nothing is revoked in the
    /// background.
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
        self.id = Id::Known(id);
        (self, id)
    }

    fn seconds(&self) -> u64 {
        let more = u64::from(self.ttl.subsec_nanos() > 0);
        self.ttl.as_secs().saturating_add(more)
    }

    fn message(&self) -> LeaseGrantRequest {
        LeaseGrantRequest {
            ttl: i64::try_from(self.seconds()).unwrap_or(i64::MAX),
            id: match self.id {
                Id::Random => 0,
                Id::Known(id) | Id::Given(id) => id.get(),
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
            return Err(Error::invalid("the time to live of a lease is zero"));
        }
        if self.seconds() > LONGEST {
            let reason = format!("the time to live of a lease is more than {LONGEST} s");
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

    async fn exchange(self, transport: Arc<Transport>, timeout: Duration) -> Result<Lease> {
        let (id, ours) = match self.id {
            Id::Random => (random_id(), false),
            Id::Known(id) => (id, true),
            Id::Given(id) => (id, false),
        };
        let sent = Grant {
            id: Id::Given(id),
            ..self
        };
        let (request, doubt) = (Framed::new(&sent.message()), MaybeExecuted::default());
        let granting = Arc::clone(&transport).calling(
            Call::read(timeout),
            || Operation::new("grant"),
            |connection| doubt.clone().during(connection.ask(request.clone())),
        );
        let granted = match granting.await {
            Ok(pb) => return Lease::read(pb),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // There are 2^63 random ids: a lease with ours is from an attempt of ours.
                if ours || self.id == Id::Random && doubt.remains() {
                    find(id, Arc::clone(&transport), timeout).await
                } else {
                    return Err(error);
                }
            }
            Err(error) => Err(error.unknown_outcome(doubt.remains())),
        };
        if granted.is_err() && self.id == Id::Random && doubt.remains() {
            abandoned::revoke(&transport, id, self.ttl);
        }
        granted
    }
}

/// The lease that an attempt granted whose answer was lost.
async fn find(id: LeaseId, transport: Arc<Transport>, timeout: Duration) -> Result<Lease> {
    let found = TimeToLive::new(id).exchange(transport, timeout).await;
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

/// An id as the server would choose it: positive, and unlike any other, also in processes that start
/// together and in a forked child.
fn random_id() -> LeaseId {
    loop {
        let random = jitter::number() >> 1;
        if let Some(id) = i64::try_from(random).ok().and_then(LeaseId::new) {
            return id;
        }
    }
}

/// A lease, as it was granted. It is a plain value: dropping it does nothing to the lease.
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
            return Err(refused("the answer to a grant carries an error".to_owned()));
        }
        let id = LeaseId::new(pb.id).ok_or_else(|| refused("a lease without an id".to_owned()))?;
        let ttl = living(pb.ttl).filter(|ttl| !ttl.is_zero());
        Ok(Lease {
            header: header(pb.header),
            id,
            ttl: ttl.ok_or_else(|| refused(format!("a lease that lives for {} s", pb.ttl)))?,
        })
    }

    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Its id: what keys are hung on.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// How long it lives without a renewal. The server may have made that longer than asked for:
    /// never shorter than one and a half election timeouts (2 s with default settings).
    pub fn ttl(&self) -> Duration {
        self.ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_rounded_up_to_whole_seconds() {
        let wire = |ttl| Grant::ttl(ttl).message().ttl;
        assert_eq!(wire(Duration::from_nanos(1)), 1);
        assert_eq!(wire(Duration::from_secs(1)), 1);
        assert_eq!(wire(Duration::from_millis(1001)), 2);
    }

    #[test]
    fn times_that_etcd_would_not_take_are_refused_before_sending() {
        for ttl in [
            Duration::ZERO,
            Duration::from_secs(LONGEST + 1),
            Duration::from_millis(LONGEST * 1000 + 1),
            Duration::MAX,
        ] {
            let refused = Grant::ttl(ttl).check().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{ttl:?}");
        }
        assert!(Grant::ttl(Duration::from_secs(LONGEST)).check().is_ok());
    }

    #[test]
    fn random_ids_are_positive_and_differ() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| random_id().get()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| *id > 0));
        assert!(ids.iter().any(|id| *id > i64::MAX / 2));
    }

    #[test]
    fn an_answer_that_is_no_lease_is_a_protocol_error() {
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

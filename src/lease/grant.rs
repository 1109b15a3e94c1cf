//! Making a lease.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::doubt::Doubt;
use super::{TimeToLive, living};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::etcd_rs_proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse};
use crate::kv::header;
use crate::namespace::Namespace;
use crate::request::Confined;
use crate::request::sealed::Exchange;
use crate::transport::{Call, Framed, Transport};
use crate::types::{LeaseId, ResponseHeader};

/// The longest time to live that etcd takes: `MaxLeaseTTL`, some 285 years.
const LONGEST: u64 = 9_000_000_000;

/// Makes a lease.
///
/// Keys are hung on it with [`Put::lease`](crate::Put::lease) and are deleted when it ends: when its
/// time to live passes without a renewal, or when it is revoked.
///
/// A grant is repeated until it is answered: its id is chosen here, so that a repetition finds the
/// lease of an attempt whose answer was lost. A grant that failed leaves at most a lease that
/// nobody uses, and that expires.
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
    id: Option<LeaseId>,
}

impl Grant {
    /// A lease that lives this long without a renewal: 1 s to 9,000,000,000 s, counted in whole
    /// seconds (rounded up). The server may make it longer: see [`Lease::ttl`].
    pub fn ttl(ttl: Duration) -> Self {
        Grant { ttl, id: None }
    }

    /// Gives the lease this id, and not a random one.
    ///
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when there is a lease with this id, be it
    /// from an attempt of this same grant whose answer was lost: who chooses ids knows their own.
    pub fn id(mut self, id: LeaseId) -> Self {
        self.id = Some(id);
        self
    }

    fn seconds(&self) -> u64 {
        let more = u64::from(self.ttl.subsec_nanos() > 0);
        self.ttl.as_secs().saturating_add(more)
    }

    fn message(&self) -> LeaseGrantRequest {
        LeaseGrantRequest {
            ttl: i64::try_from(self.seconds()).unwrap_or(i64::MAX),
            id: self.id.map_or(0, LeaseId::get),
        }
    }
}

impl Exchange for Grant {
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

    fn within(self, _: &Namespace) -> Result<Confined<Self>> {
        Ok(Confined::keyless(self))
    }

    async fn exchange(self, transport: Arc<Transport>, timeout: Duration) -> Result<Lease> {
        let random = self.id.is_none();
        let id = self.id.unwrap_or_else(random_id);
        let (request, doubt) = (Framed::new(&self.id(id).message()), Doubt::default());
        let granting = Arc::clone(&transport).calling(
            Call::read(timeout),
            || Operation::new("grant"),
            |connection| doubt.clone().during(connection.ask(request.clone())),
        );
        match granting.await {
            Ok(pb) => Lease::read(pb),
            // A random id that exists already is our own: there are 2^63 of them.
            Err(error) if random && error.kind() == ErrorKind::AlreadyExists && doubt.remains() => {
                let found = TimeToLive::new(id).exchange(transport, timeout).await;
                let found = found.map_err(|error| error.operation(Operation::new("grant")))?;
                Ok(Lease {
                    header: *found.header(),
                    id,
                    ttl: found.granted(),
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// An id as the server would choose it: positive, and unlike any other. The randomness is the
/// operating system's, because clients that start together must not choose alike.
fn random_id() -> LeaseId {
    loop {
        let random = RandomState::new().hash_one(0u8) >> 1;
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

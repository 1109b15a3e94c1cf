//! Revoking a lease.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::maybe_executed::MaybeExecuted;
use crate::error::{ErrorKind, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{LeaseRevokeRequest, LeaseRevokeResponse};
use crate::grpc::{Call, Framed, Transport};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::types::{LeaseId, ResponseHeader};

/// Revokes a lease: ends it, and deletes every key attached to it, in one revision.
///
/// The request is repeated until it is answered. It fails with
/// [`LeaseNotFound`](crate::ErrorKind::LeaseNotFound) when the lease does not exist, unless an earlier
/// attempt of the same request may have ended it. That is safe if no id is granted twice; ids are
/// random unless [`Grant::id`](crate::Grant::id) set one.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::lease::Revoke;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let lease = client.grant(Duration::from_secs(10))?;
/// client.call(Revoke::new(lease.id()))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Revoke {
    id: LeaseId,
}

impl Revoke {
    /// Revokes the lease with this id.
    pub fn new(id: LeaseId) -> Self {
        Revoke { id }
    }

    fn message(&self) -> LeaseRevokeRequest {
        LeaseRevokeRequest { id: self.id.get() }
    }
}

impl Rpc for Revoke {
    type Response = RevokeResponse;

    fn operation(&self) -> Operation {
        Operation::about("revoke", format_args!("lease {}", self.id))
    }

    fn check(&self) -> Result<()> {
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

    async fn execute(self, transport: Arc<Transport>, timeout: Duration) -> Result<RevokeResponse> {
        let (request, maybe_executed) = (Framed::new(&self.message()), MaybeExecuted::default());
        let revoking = transport.repeat(
            Call::read(timeout),
            || self.operation(),
            |connection| {
                maybe_executed
                    .clone()
                    .attempt(connection.unary(request.clone()))
            },
        );
        match revoking.await {
            Ok(revoked) => Ok(revoked.into()),
            // An earlier attempt, whose answer was lost, has revoked the lease.
            Err(error) if error.kind() == ErrorKind::LeaseNotFound && maybe_executed.get() => {
                Ok(RevokeResponse::default())
            }
            Err(error) => Err(error.unknown_outcome(maybe_executed.get())),
        }
    }
}

impl From<LeaseRevokeResponse> for RevokeResponse {
    fn from(pb: LeaseRevokeResponse) -> Self {
        RevokeResponse {
            header: header(pb.header),
        }
    }
}

/// The response to a [`Revoke`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RevokeResponse {
    header: ResponseHeader,
}

impl RevokeResponse {
    /// The header of the response. All zero when the answer was lost and a repetition found no lease.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

//! The requests of a leader to the election service: proclaim and resign.

use std::fmt;

use bytes::Bytes;

use super::campaign::LeaderKey;
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::v3electionpb as pb;
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::ResponseHeader;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;

/// Replaces the value of the leader of an election.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the caller is not the leader any
/// more.
///
/// ```no_run
/// use etcd_blocking::concurrency::Session;
/// use etcd_blocking::lock_service::Proclaim;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let session = Session::builder(&client).start()?;
/// let won = client.lock_service().campaign("elections/a", "10.0.0.5:8080", &session)?;
/// client.call(Proclaim::new(won.leader(), "10.0.0.5:9090"))?;
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Proclaim {
    leader: LeaderKey,
    value: Bytes,
}

impl Proclaim {
    /// Sets `value` as the value of this leader.
    pub fn new(leader: &LeaderKey, value: impl IntoBytes) -> Self {
        Proclaim {
            leader: leader.clone(),
            value: value.into_bytes(),
        }
    }

    fn message(&self) -> pb::ProclaimRequest {
        pb::ProclaimRequest {
            leader: Some(self.leader.pb()),
            value: self.value.clone(),
        }
    }
}

/// Prints the leader and the size of the value, never the value.
impl fmt::Debug for Proclaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proclaim")
            .field("leader", &self.leader)
            .field("value_len", &self.value.len())
            .finish()
    }
}

impl Rpc for Proclaim {
    type Response = ProclaimResponse;

    fn operation(&self) -> Operation {
        let name = KeyRange::key(self.leader.name().clone());
        Operation::on("election service: proclaim", name)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        self.leader.enter(namespace);
        Ok(Namespaced::keyless(self))
    }

    unary_rpc!(write pb::ProclaimRequest);
}

/// The response to a [`Proclaim`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ProclaimResponse {
    header: ResponseHeader,
}

impl ProclaimResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

impl From<pb::ProclaimResponse> for ProclaimResponse {
    fn from(pb: pb::ProclaimResponse) -> Self {
        ProclaimResponse {
            header: header(pb.header),
        }
    }
}

/// Resigns from the leadership of an election. The request is repeated until it is answered, which is
/// safe: the server deletes the key only if it was created at the revision of this leadership.
///
/// ```no_run
/// use etcd_blocking::concurrency::Session;
/// use etcd_blocking::lock_service::Resign;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let session = Session::builder(&client).start()?;
/// let won = client.lock_service().campaign("elections/a", "10.0.0.5:8080", &session)?;
/// client.call(Resign::new(won.leader()))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Resign {
    leader: LeaderKey,
}

impl Resign {
    /// Resigns as this leader.
    pub fn new(leader: &LeaderKey) -> Self {
        Resign {
            leader: leader.clone(),
        }
    }

    fn message(&self) -> pb::ResignRequest {
        pb::ResignRequest {
            leader: Some(self.leader.pb()),
        }
    }
}

impl Rpc for Resign {
    type Response = ResignResponse;

    fn operation(&self) -> Operation {
        let name = KeyRange::key(self.leader.name().clone());
        Operation::on("election service: resign", name)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        self.leader.enter(namespace);
        Ok(Namespaced::keyless(self))
    }

    unary_rpc!(idempotent pb::ResignRequest);
}

/// The response to a [`Resign`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ResignResponse {
    header: ResponseHeader,
}

impl ResignResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

impl From<pb::ResignResponse> for ResignResponse {
    fn from(pb: pb::ResignResponse) -> Self {
        ResignResponse {
            header: header(pb.header),
        }
    }
}

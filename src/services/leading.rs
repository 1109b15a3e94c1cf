//! The election that the server runs: what a leader says.

use std::fmt;

use bytes::Bytes;

use super::campaign::LeaderKey;
use crate::error::{Operation, Result};
use crate::etcd_rs_proto::v3electionpb as pb;
use crate::into_bytes::IntoBytes;
use crate::key::KeyRange;
use crate::kv::header;
use crate::namespace::Namespace;
use crate::request::{Confined, exchanged, sealed::Exchange};
use crate::types::ResponseHeader;

/// Has the server put another value in place of the one campaigned with.
///
/// [`NotFound`](crate::ErrorKind::NotFound) for who does not lead any more.
#[derive(Clone, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Proclaim {
    leader: LeaderKey,
    value: Bytes,
}

impl Proclaim {
    /// Proclaims `value` as the leader.
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

/// Shows the leader and the size of the value.
impl fmt::Debug for Proclaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proclaim")
            .field("leader", &self.leader)
            .field("value_len", &self.value.len())
            .finish()
    }
}

impl Exchange for Proclaim {
    type Response = ProclaimResponse;

    fn operation(&self) -> Operation {
        let name = KeyRange::key(self.leader.name().clone());
        Operation::on("election service: proclaim", name)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn within(mut self, namespace: &Namespace) -> Result<Confined<Self>> {
        self.leader.enter(namespace);
        Ok(Confined::keyless(self))
    }

    exchanged!(write pb::ProclaimRequest);
}

/// The answer to a [`Proclaim`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ProclaimResponse {
    header: ResponseHeader,
}

impl ProclaimResponse {
    /// Who answered.
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

/// Has the server resign. It is repeated until it is answered: it deletes the key only if that is
/// still the one that was created at the revision of this leadership.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Resign {
    leader: LeaderKey,
}

impl Resign {
    /// Resigns as the leader.
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

impl Exchange for Resign {
    type Response = ResignResponse;

    fn operation(&self) -> Operation {
        let name = KeyRange::key(self.leader.name().clone());
        Operation::on("election service: resign", name)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn within(mut self, namespace: &Namespace) -> Result<Confined<Self>> {
        self.leader.enter(namespace);
        Ok(Confined::keyless(self))
    }

    exchanged!(idempotent pb::ResignRequest);
}

/// The answer to a [`Resign`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ResignResponse {
    header: ResponseHeader,
}

impl ResignResponse {
    /// Who answered.
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

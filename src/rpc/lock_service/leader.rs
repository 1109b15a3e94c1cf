//! The request for the leader of an election.

use bytes::Bytes;

use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::v3electionpb as pb;
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, ResponseHeader};

/// Reads the leader of an election.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when there is no leader.
///
/// ```no_run
/// use etcd_blocking::lock_service::Leader;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// println!("{:?}", client.call(Leader::of("elections/a"))?.kv().value_str());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Leader {
    name: Bytes,
}

impl Leader {
    /// Reads the leader of the election of this name.
    pub fn of(name: impl IntoBytes) -> Self {
        Leader {
            name: name.into_bytes(),
        }
    }

    pub(super) fn enter(&mut self, namespace: &Namespace) {
        namespace.enter_name(&mut self.name);
    }

    pub(super) fn message(&self) -> pb::LeaderRequest {
        pb::LeaderRequest {
            name: self.name.clone(),
        }
    }

    pub(super) fn operation_named(&self, verb: &'static str) -> Operation {
        Operation::on(verb, KeyRange::key(self.name.clone()))
    }
}

impl Rpc for Leader {
    type Response = LeaderResponse;

    fn operation(&self) -> Operation {
        self.operation_named("election service: leader of")
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        self.enter(namespace);
        Ok(Namespaced {
            request: self,
            strip: LeaderResponse::strip,
        })
    }

    unary_rpc!(read pb::LeaderRequest);
}

/// The leader of an election.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LeaderResponse {
    header: ResponseHeader,
    kv: KeyValue,
}

impl LeaderResponse {
    pub(super) fn strip(&mut self, namespace: &Namespace) {
        namespace.leave(&mut self.kv.key);
    }

    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The key of the leader, with the value that it proclaimed.
    pub fn kv(&self) -> &KeyValue {
        &self.kv
    }
}

impl From<pb::LeaderResponse> for LeaderResponse {
    fn from(pb: pb::LeaderResponse) -> Self {
        LeaderResponse {
            header: header(pb.header),
            kv: pb.kv.map(KeyValue::from).unwrap_or_default(),
        }
    }
}

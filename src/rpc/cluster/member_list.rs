//! The request that lists the members.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::member::Member;
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb as pb;
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    MemberListRequest, MemberListResponse as Pb, MemberPromoteResponse, MemberRemoveResponse,
    MemberUpdateResponse,
};
use crate::grpc::{Call, Framed, Transport};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::types::ResponseHeader;

/// Lists the members of the cluster.
///
/// ```no_run
/// use etcd_blocking::cluster::MemberList;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let list = client.call(MemberList::new().serializable())?; // without a majority, too
/// println!("{} members", list.members().len());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct MemberList {
    serializable: bool,
}

impl MemberList {
    /// Lists the members with a linearizable read. Servers before 3.5 answer from their own state.
    pub fn new() -> Self {
        MemberList::default()
    }

    /// Lets the member answer from its own state: the list may be outdated, and no majority is needed.
    pub fn serializable(mut self) -> Self {
        self.serializable = true;
        self
    }

    fn message(&self) -> MemberListRequest {
        MemberListRequest {
            linearizable: !self.serializable,
        }
    }
}

impl Rpc for MemberList {
    type Response = MembersResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::new("member list")
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.message().encoded_len()
    }

    fn execute(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> impl Future<Output = Result<MembersResponse>> + Send + 'static {
        let request = Framed::new(&self.message()).needs_leader(!self.serializable);
        transport.unary(Call::read(timeout), move || self.operation(), request)
    }
}

/// The response to a [`MemberList`], and to the requests that change members.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MembersResponse {
    header: ResponseHeader,
    members: Vec<Member>,
}

impl MembersResponse {
    /// The header of the response. It has no revision.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// All members, including learners and members that have not started.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// All members, by value.
    pub fn into_members(self) -> Vec<Member> {
        self.members
    }

    fn new(pb_header: Option<pb::ResponseHeader>, members: Vec<pb::Member>) -> Self {
        MembersResponse {
            header: header(pb_header),
            members: members.into_iter().map(Member::from).collect(),
        }
    }
}

impl From<Pb> for MembersResponse {
    fn from(pb: Pb) -> Self {
        MembersResponse::new(pb.header, pb.members)
    }
}

impl From<MemberRemoveResponse> for MembersResponse {
    fn from(pb: MemberRemoveResponse) -> Self {
        MembersResponse::new(pb.header, pb.members)
    }
}

impl From<MemberUpdateResponse> for MembersResponse {
    fn from(pb: MemberUpdateResponse) -> Self {
        MembersResponse::new(pb.header, pb.members)
    }
}

impl From<MemberPromoteResponse> for MembersResponse {
    fn from(pb: MemberPromoteResponse) -> Self {
        MembersResponse::new(pb.header, pb.members)
    }
}

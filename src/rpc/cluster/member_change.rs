//! The requests that change the members. A change goes through consensus, and is repeated only with
//! proof that it was not executed.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::member::Member;
use super::member_list::MembersResponse;
use super::peer_url;
use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse as AddPb, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest,
};
use crate::grpc::{Call, Framed, Transport};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{MemberId, ResponseHeader};

/// Adds a member to the cluster. Afterwards start it with `--initial-cluster-state=existing`.
///
/// The new member counts for the majority at once, before it runs. A [`learner`](Self::learner) does
/// not: add one, and promote it when it has caught up.
///
/// A second member that is added to a new cluster before etcd has decided the version of the cluster (the page
/// `/version` says `not_decided`, for some milliseconds) exits at each start, and the cluster stays without a
/// majority. The servers of the feature `local` wait for the version.
///
/// | error | cause |
/// |---|---|
/// | [`InvalidArgument`](crate::ErrorKind::InvalidArgument) | a peer URL is invalid; nothing was sent |
/// | [`AlreadyExists`](crate::ErrorKind::AlreadyExists) | another member has one of these peer URLs |
/// | [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) | not enough members are started, or there are too many learners (more than `--max-learners`, 1 by default) |
/// | [`Unavailable`](crate::ErrorKind::Unavailable) | "unhealthy cluster": the members have not been connected to each other for 5 s; nothing was changed |
///
/// ```no_run
/// use etcd_blocking::cluster::MemberAdd;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let added = client.call(MemberAdd::new(["http://10.0.0.4:2380"]).learner())?;
/// println!("{} of {}", added.member().id(), added.members().len());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct MemberAdd {
    peer_urls: Vec<String>,
    learner: bool,
}

impl MemberAdd {
    /// Adds a member with these peer URLs, such as `http://10.0.0.4:2380`.
    pub fn new(peer_urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        MemberAdd {
            peer_urls: peer_urls.into_iter().map(Into::into).collect(),
            learner: false,
        }
    }

    /// Adds it as a learner: it receives all data, has no vote, and serves only serializable reads.
    pub fn learner(mut self) -> Self {
        self.learner = true;
        self
    }

    fn message(&self) -> MemberAddRequest {
        MemberAddRequest {
            peer_ur_ls: self.peer_urls.clone(),
            is_learner: self.learner,
        }
    }
}

impl Rpc for MemberAdd {
    type Response = MemberAddResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::new("member add")
    }

    fn check(&self) -> Result<()> {
        peer_url::check(&self.peer_urls)
    }

    fn writes(&self) -> bool {
        true
    }

    fn encoded_len(&self) -> usize {
        self.message().encoded_len()
    }

    async fn execute(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> Result<MemberAddResponse> {
        let operation = || self.operation();
        let request = Framed::new(&self.message());
        let adding = transport.unary(Call::write(timeout), operation, request);
        let Added(added) = adding.await?;
        added.ok_or_else(|| {
            let error = Error::protocol("the response has no added member");
            // The server answered without an error, so it has probably added the member.
            error.operation(self.operation()).unknown_outcome(true)
        })
    }
}

/// The response to a [`MemberAdd`].
#[derive(Clone, Debug, PartialEq)]
pub struct MemberAddResponse {
    header: ResponseHeader,
    member: Member,
    members: Vec<Member>,
}

impl MemberAddResponse {
    /// The header of the response. It has no revision.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The added member.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// All members, including the new one.
    pub fn members(&self) -> &[Member] {
        &self.members
    }
}

/// The decoded response; `None` when the message has no added member.
struct Added(Option<MemberAddResponse>);

impl From<AddPb> for Added {
    fn from(pb: AddPb) -> Self {
        Added(pb.member.map(|member| MemberAddResponse {
            header: header(pb.header),
            member: member.into(),
            members: pb.members.into_iter().map(Member::from).collect(),
        }))
    }
}

/// Promotes a learner to a voting member.
///
/// The call fails with [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) when the member is
/// not a learner, and while it has not caught up with the leader: then call again later. It fails with
/// [`NotFound`](crate::ErrorKind::NotFound) when the member does not exist.
///
/// ```no_run
/// use etcd_blocking::cluster::MemberPromote;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let member = client.cluster().member_list()?.into_members().remove(0);
/// client.call(MemberPromote::new(member.id()))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct MemberPromote {
    id: MemberId,
}

impl MemberPromote {
    /// Promotes the learner with this id.
    pub fn new(id: MemberId) -> Self {
        MemberPromote { id }
    }

    fn message(&self) -> MemberPromoteRequest {
        MemberPromoteRequest { id: self.id.get() }
    }
}

impl Rpc for MemberPromote {
    type Response = MembersResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::about("promote member", self.id)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    unary_rpc!(forwarded MemberPromoteRequest);
}

/// Removes a member from the cluster, whether it runs or not. The process of a removed member exits.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the member does not exist, and with
/// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) when the remaining started members would
/// not be a majority.
///
/// ```no_run
/// use etcd_blocking::cluster::MemberRemove;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let member = client.cluster().member_list()?.into_members().remove(0);
/// client.call(MemberRemove::new(member.id()))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct MemberRemove {
    id: MemberId,
}

impl MemberRemove {
    /// Removes the member with this id.
    pub fn new(id: MemberId) -> Self {
        MemberRemove { id }
    }

    fn message(&self) -> MemberRemoveRequest {
        MemberRemoveRequest { id: self.id.get() }
    }
}

impl Rpc for MemberRemove {
    type Response = MembersResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::about("remove member", self.id)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    unary_rpc!(write MemberRemoveRequest);
}

/// Replaces the peer URLs of a member, before it moves to another address.
///
/// The call fails with the errors of [`MemberAdd`], and with [`NotFound`](crate::ErrorKind::NotFound)
/// when the member does not exist.
///
/// ```no_run
/// use etcd_blocking::cluster::MemberUpdate;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let member = client.cluster().member_list()?.into_members().remove(0);
/// client.call(MemberUpdate::new(member.id(), ["http://10.0.0.9:2380"]))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct MemberUpdate {
    id: MemberId,
    peer_urls: Vec<String>,
}

impl MemberUpdate {
    /// Replaces all peer URLs of the member with this id.
    pub fn new(id: MemberId, peer_urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        MemberUpdate {
            id,
            peer_urls: peer_urls.into_iter().map(Into::into).collect(),
        }
    }

    fn message(&self) -> MemberUpdateRequest {
        MemberUpdateRequest {
            id: self.id.get(),
            peer_ur_ls: self.peer_urls.clone(),
        }
    }
}

impl Rpc for MemberUpdate {
    type Response = MembersResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::about("update member", self.id)
    }

    fn check(&self) -> Result<()> {
        peer_url::check(&self.peer_urls)
    }

    unary_rpc!(write MemberUpdateRequest);
}

//! What a member says about itself.

use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{StatusRequest, StatusResponse as Pb};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{MemberId, ResponseHeader};

/// Asks a member for its status: its version, the size of its database, the leader it knows.
///
/// The member answers from what it knows, also when it is a learner, has no leader, or is cut off from
/// the others. With several endpoints any member answers; [`Client::at`](crate::Client::at) chooses.
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct EndpointStatus {}

impl EndpointStatus {
    /// Asks for all of it; there is nothing to choose.
    pub fn new() -> Self {
        EndpointStatus {}
    }

    fn message(&self) -> StatusRequest {
        StatusRequest {}
    }
}

impl Rpc for EndpointStatus {
    type Response = StatusResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::new("status")
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    unary_rpc!(read StatusRequest, without leader);
}

/// The answer to [`EndpointStatus`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct StatusResponse {
    header: ResponseHeader,
    version: String,
    storage_version: String,
    db_size: u64,
    db_size_in_use: u64,
    db_size_quota: Option<u64>,
    leader: MemberId,
    raft_index: u64,
    raft_applied_index: u64,
    raft_term: u64,
    is_learner: bool,
    errors: Vec<String>,
    downgrade: Option<DowngradeInfo>,
}

/// A downgrade of the cluster that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DowngradeInfo {
    /// The version it goes to, such as `3.6.0`.
    pub target_version: String,
}

impl StatusResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The id of the member that answered.
    pub fn member_id(&self) -> MemberId {
        self.header.member_id
    }

    /// The version of its program, such as `3.7.2`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The version of its storage, such as `3.7.0`; `None` before 3.6, and in the first moments of a
    /// cluster.
    pub fn storage_version(&self) -> Option<&str> {
        Some(&*self.storage_version).filter(|version| !version.is_empty())
    }

    /// The bytes its database file takes on disk.
    pub fn db_size(&self) -> u64 {
        self.db_size
    }

    /// The bytes of it that are in use; the others are freed by [`Defragment`](crate::maintenance::Defragment). 0
    /// before 3.4.
    pub fn db_size_in_use(&self) -> u64 {
        self.db_size_in_use
    }

    /// How large its database may become (`--quota-backend-bytes`); `None` before 3.6.
    pub fn db_size_quota(&self) -> Option<u64> {
        self.db_size_quota
    }

    /// The leader it knows; `None` when it knows none.
    pub fn leader(&self) -> Option<MemberId> {
        Some(self.leader).filter(|leader| leader.get() != 0)
    }

    /// Whether it takes itself for the leader.
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.member_id())
    }

    /// Whether it is a learner.
    pub fn is_learner(&self) -> bool {
        self.is_learner
    }

    /// The index of its last committed raft entry.
    pub fn raft_index(&self) -> u64 {
        self.raft_index
    }

    /// The index of the last raft entry that its store has.
    pub fn raft_applied_index(&self) -> u64 {
        self.raft_applied_index
    }

    /// The raft term it is in.
    pub fn raft_term(&self) -> u64 {
        self.raft_term
    }

    /// What is wrong, in its own words: no leader, and every alarm of the cluster.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// The downgrade that is under way; `None` when there is none, and before 3.6.
    pub fn downgrade(&self) -> Option<&DowngradeInfo> {
        self.downgrade.as_ref()
    }
}

impl From<Pb> for StatusResponse {
    fn from(pb: Pb) -> Self {
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        StatusResponse {
            header: header(pb.header),
            version: pb.version,
            storage_version: pb.storage_version,
            db_size: size(pb.db_size),
            db_size_in_use: size(pb.db_size_in_use),
            db_size_quota: Some(size(pb.db_size_quota)).filter(|quota| *quota > 0),
            leader: MemberId::new(pb.leader),
            raft_index: pb.raft_index,
            raft_applied_index: pb.raft_applied_index,
            raft_term: pb.raft_term,
            is_learner: pb.is_learner,
            errors: pb.errors,
            downgrade: pb
                .downgrade_info
                .filter(|info| info.enabled)
                .map(|info| DowngradeInfo {
                    target_version: info.target_version,
                }),
        }
    }
}

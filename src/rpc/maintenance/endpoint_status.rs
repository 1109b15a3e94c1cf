//! The request for the status of a member.

use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{StatusRequest, StatusResponse as Pb};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{MemberId, ResponseHeader};

/// Reads the status of a member: its version, the size of its database, its leader.
///
/// The member answers from its own state, also when it is a learner, has no leader, or is cut off from
/// the others. A client with several endpoints uses any member; [`Client::at`](crate::Client::at)
/// selects one.
///
/// ```no_run
/// use etcd_blocking::maintenance::EndpointStatus;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let status = client.call(EndpointStatus::new())?;
/// println!("etcd {}, term {}", status.version(), status.raft_term());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct EndpointStatus {}

impl EndpointStatus {
    /// Reads the whole status. There are no options.
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

/// The response to an [`EndpointStatus`].
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

/// A running downgrade of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DowngradeInfo {
    /// The target version, such as `3.6.0`.
    pub target_version: String,
}

impl StatusResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The id of the member that answered.
    pub fn member_id(&self) -> MemberId {
        self.header.member_id
    }

    /// The version of the etcd program, such as `3.7.2`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The storage version, such as `3.7.0`. `None` before 3.6, and while a new cluster has not determined
    /// it.
    pub fn storage_version(&self) -> Option<&str> {
        Some(&*self.storage_version).filter(|version| !version.is_empty())
    }

    /// The size of the database file on disk, in bytes.
    pub fn db_size(&self) -> u64 {
        self.db_size
    }

    /// The part of [`db_size`](Self::db_size) that is in use, in bytes.
    /// [`Defragment`](crate::maintenance::Defragment) frees the rest. 0 before 3.4.
    pub fn db_size_in_use(&self) -> u64 {
        self.db_size_in_use
    }

    /// The limit of the database size in bytes (`--quota-backend-bytes`). `None` before 3.6.
    pub fn db_size_quota(&self) -> Option<u64> {
        self.db_size_quota
    }

    /// The leader, as far as the member knows. `None` without a leader.
    pub fn leader(&self) -> Option<MemberId> {
        Some(self.leader).filter(|leader| leader.get() != 0)
    }

    /// Whether the member considers itself the leader.
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.member_id())
    }

    /// Whether the member is a learner.
    pub fn is_learner(&self) -> bool {
        self.is_learner
    }

    /// The index of the last committed raft entry.
    pub fn raft_index(&self) -> u64 {
        self.raft_index
    }

    /// The index of the last raft entry that was applied to the store.
    pub fn raft_applied_index(&self) -> u64 {
        self.raft_applied_index
    }

    /// The present raft term of the member.
    pub fn raft_term(&self) -> u64 {
        self.raft_term
    }

    /// The errors that the member reports: a missing leader, and every alarm of the cluster.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// The running downgrade. `None` without one, and before 3.6.
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

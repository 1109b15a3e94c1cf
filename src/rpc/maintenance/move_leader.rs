//! Moving the leadership to another member.

use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::MemberId;

/// Moves the leadership to another member, and waits until that member is the leader.
///
/// Only the leader accepts the request. Other members fail it with
/// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) ("not leader");
/// [`Maintenance::move_leader`](crate::maintenance::Maintenance::move_leader) finds the leader first.
/// The call fails with [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when the target does not
/// exist or is a learner.
///
/// ```no_run
/// use etcd_blocking::maintenance::MoveLeader;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let leader = client.at("http://10.0.0.1:2379")?;
/// let next = client.at("http://10.0.0.2:2379")?.maintenance().status()?.member_id();
/// leader.call(MoveLeader::to(next))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct MoveLeader {
    target: MemberId,
}

impl MoveLeader {
    /// Moves the leadership to this member.
    pub fn to(target: MemberId) -> Self {
        MoveLeader { target }
    }

    fn message(&self) -> MoveLeaderRequest {
        MoveLeaderRequest {
            target_id: self.target.get(),
        }
    }
}

impl Rpc for MoveLeader {
    type Response = ();

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::about("move the leader", format_args!("to member {}", self.target))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    // Without `hasleader`: during the move there is no leader for a moment.
    unary_rpc!(write MoveLeaderRequest, without leader);
}

impl From<MoveLeaderResponse> for () {
    fn from(_: MoveLeaderResponse) {}
}

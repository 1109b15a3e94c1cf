//! Moving the leadership to another member.

use crate::error::{Operation, Result};
use crate::etcd_rs_proto::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse};
use crate::namespace::Namespace;
use crate::request::sealed::Exchange;
use crate::request::{Confined, exchanged};
use crate::types::MemberId;

/// Has the leader hand over to another member, and waits until that one leads.
///
/// Only the leader does it: any other member answers "not leader", an error of the kind
/// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition).
/// [`Client::move_leader`](crate::Client::move_leader) finds the leader first. A member that does not
/// exist, or is a learner, is [`InvalidArgument`](crate::ErrorKind::InvalidArgument).
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

impl Exchange for MoveLeader {
    type Response = ();

    fn within(self, _: &Namespace) -> Result<Confined<Self>> {
        Ok(Confined::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::about("move the leader", format_args!("to member {}", self.target))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    // Not `hasleader`: for a moment of the very handover there is none.
    exchanged!(write MoveLeaderRequest, without leader);
}

impl From<MoveLeaderResponse> for () {
    fn from(_: MoveLeaderResponse) {}
}

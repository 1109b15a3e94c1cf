//! One member, as the cluster knows it.

use crate::grpc::etcd_rs_proto::etcdserverpb::Member as Pb;
use crate::types::MemberId;

/// A member of the cluster, as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    id: MemberId,
    name: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    is_learner: bool,
}

impl Member {
    /// Its id.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// Its name; empty when it was added and has not started yet.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its peers reach it.
    pub fn peer_urls(&self) -> &[String] {
        &self.peer_urls
    }

    /// Where it says that clients reach it; empty before it has started. Each can be given to
    /// [`Client::at`](crate::Client::at).
    pub fn client_urls(&self) -> &[String] {
        &self.client_urls
    }

    /// Whether it is a learner: it gets all data and has no vote.
    pub fn is_learner(&self) -> bool {
        self.is_learner
    }

    /// Whether it has ever started: it has a name from then on.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }
}

impl From<Pb> for Member {
    fn from(pb: Pb) -> Self {
        Member {
            id: MemberId::new(pb.id),
            name: pb.name,
            peer_urls: pb.peer_ur_ls,
            client_urls: pb.client_ur_ls,
            is_learner: pb.is_learner,
        }
    }
}

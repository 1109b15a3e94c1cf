//! A member of the cluster.

use crate::grpc::etcd_rs_proto::etcdserverpb::Member as Pb;
use crate::types::MemberId;

/// A member of the cluster, as in the member list.
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// for member in client.cluster().member_list()?.members() {
///     println!("{}: learner {}, started {}", member.name(), member.is_learner(), member.is_started());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    id: MemberId,
    name: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    is_learner: bool,
}

impl Member {
    /// The id of the member.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// The name of the member. Empty when it was added and has not started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URLs at which its peers connect.
    pub fn peer_urls(&self) -> &[String] {
        &self.peer_urls
    }

    /// The URLs at which clients connect, for [`Client::at`](crate::Client::at). Empty before the member
    /// has started.
    pub fn client_urls(&self) -> &[String] {
        &self.client_urls
    }

    /// Whether the member is a learner, which receives all data and has no vote.
    pub fn is_learner(&self) -> bool {
        self.is_learner
    }

    /// Whether the member has ever started, and so has a name.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_what_the_server_says() {
        let member = Member::from(Pb {
            id: 7,
            name: "a".into(),
            peer_ur_ls: vec!["http://p:1".into()],
            client_ur_ls: vec!["http://c:1".into()],
            is_learner: true,
        });
        assert_eq!((member.id(), member.name()), (MemberId::new(7), "a"));
        assert_eq!(member.peer_urls(), ["http://p:1"]);
        assert_eq!(member.client_urls(), ["http://c:1"]);
        assert!(member.is_learner() && member.is_started());
        assert!(!Member::from(Pb::default()).is_started());
    }
}

//! The request of the election service to become the leader.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::wait_under_lease::WaitUnderLease;
use crate::error::{Error, Operation, Result};
use crate::grpc::Transport;
use crate::grpc::etcd_rs_proto::v3electionpb as pb;
use crate::grpc::etcd_rs_proto::v3electionpb::CampaignRequest;
use crate::rpc::kv::{Compare, header};
use crate::rpc::lease::KeepsAlive;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::{KeyRange, Printed};
use crate::types::{LeaseId, ResponseHeader, Revision};

/// Campaigns in an election under a lease that is kept alive. It is the same election as a
/// [`concurrency::Election`](crate::concurrency::Election) of that name.
///
/// The call blocks until the caller is the leader, with the time limits of a [`Lock`](super::Lock).
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::concurrency::Session;
/// use etcd_blocking::lock_service::Campaign;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let session = Session::builder(&client).start()?;
/// let campaign = Campaign::new("elections/a", "10.0.0.5:8080", &session);
/// let won = client.call(campaign.within(Duration::from_secs(30)))?;
/// println!("leads with token {}", won.leader().fencing_token());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a request does nothing until it is called"]
pub struct Campaign {
    name: Bytes,
    value: Bytes,
    wait: WaitUnderLease,
}

impl Campaign {
    /// Campaigns in the election of this name under the lease that `alive` keeps alive. Observers
    /// receive `value`.
    pub fn new(name: impl IntoBytes, value: impl IntoBytes, alive: &impl KeepsAlive) -> Self {
        Campaign {
            name: name.into_bytes(),
            value: value.into_bytes(),
            wait: WaitUnderLease {
                lease: alive.lease_waiter(),
                within: None,
            },
        }
    }

    /// Sets a time limit. The call then fails with [`Timeout`](crate::ErrorKind::Timeout).
    pub fn within(mut self, timeout: Duration) -> Self {
        self.wait.within = Some(timeout);
        self
    }

    fn message(&self) -> CampaignRequest {
        CampaignRequest {
            name: self.name.clone(),
            lease: self.wait.lease.lease().get(),
            value: self.value.clone(),
        }
    }
}

/// Prints the name and the size of the value, never the value.
impl fmt::Debug for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Campaign")
            .field("name", &Printed(&self.name))
            .field("value_len", &self.value.len())
            .field("lease", &self.wait.lease.lease())
            .finish_non_exhaustive()
    }
}

impl Rpc for Campaign {
    type Response = CampaignResponse;

    fn operation(&self) -> Operation {
        Operation::on(
            "election service: campaign",
            KeyRange::key(self.name.clone()),
        )
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn writes(&self) -> bool {
        true
    }

    fn encoded_len(&self) -> usize {
        self.message().encoded_len()
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        namespace.enter_name(&mut self.name);
        Ok(Namespaced {
            request: self,
            strip: |response, namespace| {
                namespace.leave_name(&mut response.leader.name);
                namespace.leave(&mut response.leader.key);
            },
        })
    }

    async fn execute(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> Result<CampaignResponse> {
        let (message, operation) = (self.message(), self.operation());
        let key = |response: &pb::CampaignResponse| {
            let leader = response.leader.clone().unwrap_or_default();
            // A key of the same name and a later revision is another leadership under this lease.
            (leader.key, Some(Revision::new(leader.rev)))
        };
        let about = operation.clone();
        let won = self
            .wait
            .until_held(transport, operation, timeout, message, key);
        let (response, _) = won.await?;
        let leader = response.leader.and_then(LeaderKey::read);
        Ok(CampaignResponse {
            header: header(response.header),
            leader: leader.ok_or_else(|| {
                Error::protocol("the response to a campaign has no leader key").operation(about)
            })?,
        })
    }
}

/// The response to a [`Campaign`]. The caller is the leader.
#[derive(Clone, Debug, PartialEq)]
pub struct CampaignResponse {
    header: ResponseHeader,
    leader: LeaderKey,
}

impl CampaignResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The key of this leadership, for [`Proclaim`](super::Proclaim) and [`Resign`](super::Resign).
    pub fn leader(&self) -> &LeaderKey {
        &self.leader
    }
}

/// The key of a leadership, and the revision that created it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderKey {
    name: Bytes,
    key: Bytes,
    revision: Revision,
    lease: LeaseId,
}

impl LeaderKey {
    fn read(pb: pb::LeaderKey) -> Option<LeaderKey> {
        Some(LeaderKey {
            name: pb.name,
            key: pb.key,
            revision: Revision::new(pb.rev),
            lease: LeaseId::new(pb.lease)?,
        })
    }

    pub(super) fn enter(&mut self, namespace: &Namespace) {
        namespace.enter_name(&mut self.name);
        namespace.enter(&mut self.key, &mut Bytes::new());
    }

    pub(super) fn pb(&self) -> pb::LeaderKey {
        pb::LeaderKey {
            name: self.name.clone(),
            key: self.key.clone(),
            rev: self.revision.get(),
            lease: self.lease.get(),
        }
    }

    /// The name of the election.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// The leader's key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The fencing token: the create revision of the key. It is greater than those of all leaders before.
    pub fn fencing_token(&self) -> Revision {
        self.revision
    }

    /// The lease that the key is attached to.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// A comparison that is true during this leadership, for [`Txn::when`](crate::Txn::when).
    pub fn is_leader(&self) -> Compare {
        Compare::create_revision(self.key.clone()).eq(self.revision)
    }
}

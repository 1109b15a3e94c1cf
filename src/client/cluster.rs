//! The verbs of the cluster service.

use std::sync::Arc;
use std::time::Duration;

use super::Client;
use crate::error::{Error, Operation, Result};
use crate::rpc::cluster;
use crate::rpc::cluster::{
    MemberAdd, MemberAddResponse, MemberList, MemberPromote, MemberRemove, MemberUpdate,
    MembersResponse,
};
use crate::runtime::Spawn as _;
use crate::types::MemberId;

/// The verbs of the members of the cluster, returned by [`Client::cluster`].
///
/// A handle is cheap to clone and shares everything with its client.
#[derive(Clone, Debug)]
pub struct Cluster {
    client: Client,
}

impl Client {
    /// Returns the verbs of the members of the cluster.
    ///
    /// They use the timeout, the endpoints and the namespace of this client.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            client: self.clone(),
        }
    }

    /// Learns the endpoints of the cluster from its member list, and returns all that the client has
    /// now: those that were configured, and the client URLs of members that have started and are no
    /// learners.
    ///
    /// Only URLs of the scheme that the client's endpoints have are taken: https is never left for
    /// http. Endpoints from an earlier list that are not in this list are removed, as with
    /// [`set_endpoints`](Client::set_endpoints). Servers must advertise URLs that reach them from
    /// here (`--advertise-client-urls`).
    /// [`ClientBuilder::sync_interval`](crate::ClientBuilder::sync_interval) does this from time to
    /// time.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call);
    /// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) on a view that is aimed at one
    /// endpoint.
    pub fn sync_endpoints(&self) -> Result<Vec<String>> {
        let refused = |e: Error| e.operation(Operation::new("sync endpoints"));
        self.refuse_if_aimed().map_err(refused)?;
        let core = &self.core;
        let transport = Arc::clone(&core.transport);
        core.bridge.call(cluster::sync(transport, self.timeout))?;
        Ok(self.endpoints())
    }

    /// Reads the member list at an interval, in the background.
    pub(crate) fn keep_in_sync(&self, interval: Duration) -> Result<()> {
        let transport = Arc::downgrade(&self.core.transport);
        let syncing = cluster::keep_in_sync(transport, interval);
        self.core.bridge.spawn(Box::pin(syncing))
    }
}

impl Cluster {
    /// Lists the members of the cluster, by a linearizable read.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call); without a majority, [`MemberList::serializable`] still answers.
    pub fn member_list(&self) -> Result<MembersResponse> {
        self.client.call(MemberList::new())
    }

    /// Adds a voting member, which counts for the majority at once. See [`MemberAdd`], also for learners.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`MemberAdd`].
    pub fn member_add(
        &self,
        peer_urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<MemberAddResponse> {
        self.client.call(MemberAdd::new(peer_urls))
    }

    /// Promotes a learner that has caught up to a voting member.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`MemberPromote`].
    pub fn member_promote(&self, id: MemberId) -> Result<MembersResponse> {
        self.client.call(MemberPromote::new(id))
    }

    /// Removes a member.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`MemberRemove`].
    pub fn member_remove(&self, id: MemberId) -> Result<MembersResponse> {
        self.client.call(MemberRemove::new(id))
    }

    /// Changes the peer URLs of a member.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`MemberUpdate`].
    pub fn member_update(
        &self,
        id: MemberId,
        peer_urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<MembersResponse> {
        self.client.call(MemberUpdate::new(id, peer_urls))
    }
}

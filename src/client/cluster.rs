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
/// A handle is cheap to clone and shares everything with its client. Each verb blocks for at most the client's
/// [timeout](Client::timeout).
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// for member in client.cluster().member_list()?.members() {
///     println!("{}: {:?}", member.name(), member.client_urls());
/// }
/// # Ok(()) }
/// ```
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

    /// Reads the endpoints of the cluster from its member list, and returns all endpoints of the client:
    /// the configured ones, and the client URLs of started voting members.
    ///
    /// Only URLs with the scheme of the client's endpoints are used: https is never replaced by http. Endpoints from an earlier list that are not in this list are removed, as with
    /// [`set_endpoints`](Client::set_endpoints). Servers must advertise URLs that this
    /// client can reach (`--advertise-client-urls`).
    /// [`ClientBuilder::sync_interval`](crate::ClientBuilder::sync_interval) repeats this in the
    /// background.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("endpoints: {:?}", client.sync_endpoints()?);
    /// # Ok(()) }
    /// ```
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
        // A weak reference: the task must not keep a closed client alive.
        let transport = Arc::downgrade(&self.core.transport);
        let syncing = cluster::keep_in_sync(transport, interval);
        self.core.bridge.spawn(Box::pin(syncing))
    }
}

impl Cluster {
    /// Lists the members of the cluster, by a linearizable read.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// for member in client.cluster().member_list()?.members() {
    ///     println!("{} {} {:?}", member.id(), member.name(), member.client_urls());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call); without a majority, [`MemberList::serializable`] still answers.
    pub fn member_list(&self) -> Result<MembersResponse> {
        self.client.call(MemberList::new())
    }

    /// Adds a voting member, which counts for the majority at once. See [`MemberAdd`], also for learners.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let added = client.cluster().member_add(["http://10.0.0.4:2380"])?;
    /// println!("its id is {}", added.member().id());
    /// # Ok(()) }
    /// ```
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
    /// ```no_run
    /// use etcd_blocking::cluster::MemberAdd;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let added = client.call(MemberAdd::new(["http://10.0.0.4:2380"]).learner())?;
    /// // ... start the member, and wait until it has caught up
    /// client.cluster().member_promote(added.member().id())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`MemberPromote`].
    pub fn member_promote(&self, id: MemberId) -> Result<MembersResponse> {
        self.client.call(MemberPromote::new(id))
    }

    /// Removes a member.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// for member in client.cluster().member_list()?.into_members() {
    ///     if member.name() == "etcd-4" {
    ///         client.cluster().member_remove(member.id())?;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`MemberRemove`].
    pub fn member_remove(&self, id: MemberId) -> Result<MembersResponse> {
        self.client.call(MemberRemove::new(id))
    }

    /// Changes the peer URLs of a member.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let members = client.cluster().member_list()?.into_members();
    /// client.cluster().member_update(members[0].id(), ["http://10.0.0.9:2380"])?;
    /// # Ok(()) }
    /// ```
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

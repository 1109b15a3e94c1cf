//! The verbs of the lease service.

use super::Client;
use std::time::Duration;

use crate::error::{Operation, Result};
use crate::rpc::lease::{
    Grant, KeepAlive, KeepAliveOnce, Lease, Leases, LeasesResponse, Renewal, Revoke,
    RevokeResponse, TimeToLive, TimeToLiveResponse,
};
use crate::rpc::request;
use crate::types::LeaseId;

impl Client {
    /// Grants a lease that expires after `ttl` unless it is renewed: see [`Grant`].
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use etcd_blocking::Put;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let lease = client.grant(Duration::from_secs(10))?;
    /// client.call(Put::new("worker/7", "busy").lease(lease.id()))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn grant(&self, ttl: Duration) -> Result<Lease> {
        self.call(Grant::ttl(ttl))
    }

    /// Revokes a lease, which deletes every key that is attached to it.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let lease = client.grant(Duration::from_secs(10))?;
    /// client.revoke(lease.id())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`Revoke`].
    pub fn revoke(&self, lease: LeaseId) -> Result<RevokeResponse> {
        self.call(Revoke::new(lease))
    }

    /// Reads the remaining time of a lease.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let lease = client.grant(Duration::from_secs(10))?;
    /// match client.time_to_live(lease.id())?.remaining() {
    ///     Some(left) => println!("{left:?} left"),
    ///     None => println!("the lease has ended"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call). A lease that does not exist is a response, not an error.
    pub fn time_to_live(&self, lease: LeaseId) -> Result<TimeToLiveResponse> {
        self.call(TimeToLive::new(lease))
    }

    /// Lists every lease of the cluster.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("{} leases", client.leases()?.ids().len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn leases(&self) -> Result<LeasesResponse> {
        self.call(Leases::new())
    }

    /// Renews a lease once.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let lease = client.grant(Duration::from_secs(10))?;
    /// println!("valid for {:?}", client.keep_alive_once(lease.id())?.ttl());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`KeepAliveOnce`].
    pub fn keep_alive_once(&self, lease: LeaseId) -> Result<Renewal> {
        self.call(KeepAliveOnce::new(lease))
    }

    /// Keeps a lease alive in the background for as long as the [`KeepAlive`] exists.
    ///
    /// It does not wait for etcd: the first renewal, or the reason why it failed, arrives in the
    /// [`KeepAlive`], at the latest when the [timeout](Client::timeout) of this client has passed.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let lease = client.grant(Duration::from_secs(10))?;
    /// let alive = client.keep_alive(lease.id())?;
    /// for renewal in alive.iter() {
    ///     println!("valid for {:?}", renewal?.ttl()); // an `Err` is the last item
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) when the client is closed;
    /// [`Timeout`](crate::ErrorKind::Timeout) when its timeout is zero.
    pub fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive> {
        let about = || Operation::about("keep alive lease", lease);
        request::has_time(self.timeout).map_err(|error| error.operation(about()))?;
        let core = &self.core;
        core.leases
            .keep_alive(&core.bridge, &core.transport, lease, self.timeout)
    }
}

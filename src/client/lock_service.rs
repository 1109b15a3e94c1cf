//! The verbs of the lock and election services that run inside the server.

use std::sync::Arc;

use super::Client;
use crate::error::Result;
use crate::rpc::lease::KeepsAlive;
use crate::rpc::lock_service;
use crate::rpc::lock_service::{
    Campaign, CampaignResponse, Leader, LeaderKey, LeaderResponse, Leaders, Lock, LockResponse,
    Proclaim, ProclaimResponse, Resign, ResignResponse, Unlock, UnlockResponse,
};
use crate::types::into_bytes::IntoBytes;

/// The verbs of the lock and election services that run inside the server, returned by [`Client::lock_service`].
///
/// A handle is cheap to clone and shares everything with its client.
///
/// ```no_run
/// use std::time::Duration;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let lease = client.grant(Duration::from_secs(10))?;
/// let alive = client.keep_alive(lease.id())?;
/// let lock = client.lock_service().lock("locks/report", &alive)?;
/// client.lock_service().unlock(lock.key())?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct LockService {
    client: Client,
}

impl Client {
    /// Returns the verbs of the lock and election services that run inside the server.
    ///
    /// They use the timeout, the endpoints and the namespace of this client.
    pub fn lock_service(&self) -> LockService {
        LockService {
            client: self.clone(),
        }
    }
}

impl LockService {
    /// Acquires a lock on the server, under the lease that `alive` (a [`KeepAlive`](crate::KeepAlive) or
    /// a [`Session`](crate::concurrency::Session)) keeps; blocks until it is acquired, without
    /// regard to the client's timeout. For a limit see [`Lock::within`]; for a lock that detects the loss
    /// of its lease see [`concurrency::Mutex`](crate::concurrency::Mutex).
    ///
    /// ```no_run
    /// # use etcd_blocking::Client;
    /// # use etcd_blocking::concurrency::Session;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// let session = Session::builder(&client).start()?;
    /// let locked = client.lock_service().lock("locks/report", &session)?;
    /// println!("ours, with token {}", locked.fencing_token());
    /// client.lock_service().unlock(locked.key().clone())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call); the reason why the lease is no longer kept alive, when that ends the wait.
    pub fn lock(&self, name: impl IntoBytes, alive: &impl KeepsAlive) -> Result<LockResponse> {
        self.client.call(Lock::new(name, alive))
    }

    /// Releases the lock that this key holds: see [`Unlock`].
    ///
    /// ```no_run
    /// # use etcd_blocking::concurrency::Session;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let session = Session::builder(&client).start()?;
    /// let locked = client.lock_service().lock("locks/report", &session)?;
    /// client.lock_service().unlock(locked.key().clone())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put): when the response is lost, the lock may or may not have been released.
    pub fn unlock(&self, key: impl IntoBytes) -> Result<UnlockResponse> {
        self.client.call(Unlock::new(key))
    }

    /// Campaigns on the server. Blocks until this client leads, as
    /// [`lock`](crate::lock_service::LockService::lock) blocks until it has the lock.
    ///
    /// ```no_run
    /// # use etcd_blocking::concurrency::Session;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let session = Session::builder(&client).start()?;
    /// let won = client.lock_service().campaign("elections/a", "10.0.0.5:8080", &session)?;
    /// println!("leads with token {}", won.leader().fencing_token());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`lock`](crate::lock_service::LockService::lock).
    pub fn campaign(
        &self,
        name: impl IntoBytes,
        value: impl IntoBytes,
        alive: &impl KeepsAlive,
    ) -> Result<CampaignResponse> {
        self.client.call(Campaign::new(name, value, alive))
    }

    /// Replaces the value of the leader on the server.
    ///
    /// ```no_run
    /// # use etcd_blocking::concurrency::Session;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let session = Session::builder(&client).start()?;
    /// let won = client.lock_service().campaign("elections/a", "10.0.0.5:8080", &session)?;
    /// client.lock_service().proclaim(won.leader(), "10.0.0.5:9090")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put); [`NotFound`](crate::ErrorKind::NotFound) when this client no longer
    /// leads.
    pub fn proclaim(&self, leader: &LeaderKey, value: impl IntoBytes) -> Result<ProclaimResponse> {
        self.client.call(Proclaim::new(leader, value))
    }

    /// Resigns a leadership of the server.
    ///
    /// ```no_run
    /// # use etcd_blocking::concurrency::Session;
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let session = Session::builder(&client).start()?;
    /// let won = client.lock_service().campaign("elections/a", "10.0.0.5:8080", &session)?;
    /// client.lock_service().resign(won.leader())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn resign(&self, leader: &LeaderKey) -> Result<ResignResponse> {
        self.client.call(Resign::new(leader))
    }

    /// Reads the leader of an election.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("{:?}", client.lock_service().leader("elections/a")?.kv().value_str());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call); [`NotFound`](crate::ErrorKind::NotFound) when there is no leader.
    pub fn leader(&self, name: impl IntoBytes) -> Result<LeaderResponse> {
        self.client.call(Leader::of(name))
    }

    /// Follows the leader of an election over a stream from the server. It does not wait for etcd.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// for leader in client.lock_service().observe("elections/a")?.iter() {
    ///     println!("{:?} leads", leader?.kv().value_str());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) when the client is closed.
    pub fn observe(&self, name: impl IntoBytes) -> Result<Leaders> {
        let (core, namespace) = (&self.client.core, self.client.namespace_of_view().cloned());
        let transport = Arc::clone(&core.transport);
        lock_service::observe(&core.bridge, transport, Leader::of(name), namespace)
    }
}

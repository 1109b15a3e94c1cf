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

/// The verbs of the lock and election services that run inside the server: made by [`Client::lock_service`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LockService {
    client: Client,
}

impl Client {
    /// The verbs of the lock and election services that run inside the server, over this client: its namespace, timeout and endpoints.
    pub fn lock_service(&self) -> LockService {
        LockService {
            client: self.clone(),
        }
    }
}

impl LockService {
    /// Has the server take a lock, under the lease that `alive` (a [`KeepAlive`](crate::KeepAlive) or
    /// a [`Session`](crate::concurrency::Session)) keeps; blocks until it is ours, whatever the
    /// client's timeout is. For a limit see [`Lock::within`], and for more than the server knows
    /// [`concurrency::Mutex`](crate::concurrency::Mutex).
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
    /// As [`call`](Client::call); why the lease is not kept alive any more, when that ends the wait.
    pub fn lock(&self, name: impl IntoBytes, alive: &impl KeepsAlive) -> Result<LockResponse> {
        self.client.call(Lock::new(name, alive))
    }

    /// Has the server give back the lock that this key holds: see [`Unlock`].
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put): when the answer is lost, the lock may have been given back or not.
    pub fn unlock(&self, key: impl IntoBytes) -> Result<UnlockResponse> {
        self.client.call(Unlock::new(key))
    }

    /// Has the server campaign, as [`lock`](crate::lock_service::LockService::lock) has it lock; blocks until we lead.
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

    /// Has the server put another value in place of the one campaigned with.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put); [`NotFound`](crate::ErrorKind::NotFound) for who does not lead any
    /// more.
    pub fn proclaim(&self, leader: &LeaderKey, value: impl IntoBytes) -> Result<ProclaimResponse> {
        self.client.call(Proclaim::new(leader, value))
    }

    /// Has the server resign.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn resign(&self, leader: &LeaderKey) -> Result<ResignResponse> {
        self.client.call(Resign::new(leader))
    }

    /// Asks the server who leads an election.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call); [`NotFound`](crate::ErrorKind::NotFound) when nobody does.
    pub fn leader(&self, name: impl IntoBytes) -> Result<LeaderResponse> {
        self.client.call(Leader::of(name))
    }

    /// Follows who leads an election, over a stream from the server. It does not wait for etcd.
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

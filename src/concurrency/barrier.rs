//! A key that programs wait for to go.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::RecvTimeoutError;

use super::missed;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{Compare, Get, Put, Txn};
use crate::rpc::watch::Watch;
use crate::types::LeaseId;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::{KeyRange, Printed};

/// A barrier in etcd: while its key exists, whoever [waits](Barrier::wait) at it is kept.
///
/// The key is the barrier's name and nothing else, as Go's `recipe.Barrier` has it.
///
/// ```
/// use etcd_blocking::{Client, concurrency::Barrier};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = etcd_blocking::local::LocalEtcd::start()?;
/// # let client = Client::connect([etcd.endpoint()])?;
/// let migration = Barrier::new(&client, "barrier/migration");
/// migration.hold()?;
/// // ... here in one program; the others wait in migration.wait()
/// migration.release()?;
/// migration.wait()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    client: Client,
    key: Bytes,
}

impl Barrier {
    /// The barrier with this key.
    pub fn new(client: &Client, key: impl IntoBytes) -> Self {
        Barrier {
            client: client.clone(),
            key: key.into_bytes(),
        }
    }

    /// Sets the barrier up: from now on whoever waits is kept. It stays until it is
    /// [released](Barrier::release), by this program or another.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) when it is held already; else as [`Client::put`].
    pub fn hold(&self) -> Result<()> {
        self.create(Put::new(self.key.clone(), ""))
    }

    /// The same on a lease: the barrier falls when that ends, so that nobody waits for a program that
    /// died.
    ///
    /// # Errors
    ///
    /// As [`hold`](Barrier::hold), and [`LeaseNotFound`](ErrorKind::LeaseNotFound).
    pub fn hold_on_lease(&self, lease: LeaseId) -> Result<()> {
        self.create(Put::new(self.key.clone(), "").lease(lease))
    }

    fn create(&self, put: Put) -> Result<()> {
        let about = || Operation::on("hold", KeyRange::key(self.key.clone()));
        let free = Compare::version(self.key.clone()).eq(0);
        let held = self.client.txn(Txn::when([free]).then([put]));
        if held.map_err(|error| error.operation(about()))?.succeeded() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::AlreadyExists, "the barrier is held already").operation(about()))
    }

    /// Lets everybody go. Releasing a barrier that is not held is no error.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub fn release(&self) -> Result<()> {
        self.client.delete(self.key.clone())?;
        Ok(())
    }

    /// Blocks while the barrier is held; returns at once when it is not. It waits without polling, in
    /// a watch.
    ///
    /// # Errors
    ///
    /// As [`Client::call`] and [`Client::watch`].
    pub fn wait(&self) -> Result<()> {
        self.wait_timeout(Duration::MAX)
    }

    /// The same, for at most `timeout` and a call.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when it is still held after `timeout`; else as
    /// [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<()> {
        let begun = Instant::now();
        let about = || Operation::on("wait for barrier", KeyRange::key(self.key.clone()));
        loop {
            let get = self.client.call(Get::key(self.key.clone()).keys_only())?;
            if get.first().is_none() {
                return Ok(());
            }
            let after = get.header().revision;
            let gone = self
                .client
                .watch(Watch::key(self.key.clone()).after(after).no_put())?;
            let left = timeout.saturating_sub(begun.elapsed());
            match gone.recv_timeout(left) {
                Ok(Ok(_)) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    let reason =
                        format!("{:?} is still held after {timeout:?}", Printed(&self.key));
                    return Err(Error::new(ErrorKind::Timeout, reason).operation(about()));
                }
                Ok(Err(error)) if !missed(&error) => return Err(error.operation(about())),
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {}
            }
        }
    }
}

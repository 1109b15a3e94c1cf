//! A barrier: programs wait until a key is deleted.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::RecvTimeoutError;

use super::events_are_missing;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{Compare, Get, Put, Txn};
use crate::rpc::watch::Watch;
use crate::types::LeaseId;
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::{KeyRange, Printed};

/// A barrier in etcd: [`wait`](Barrier::wait) blocks while its key exists.
///
/// The key is the name of the barrier, as in Go's `recipe.Barrier`.
///
/// ```
/// use etcd_blocking::{Client, concurrency::Barrier};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = etcd_blocking::local::LocalEtcd::start()?;
/// # let client = Client::connect([etcd.endpoint()])?;
/// let migration = Barrier::new(&client, "barrier/migration");
/// migration.hold()?;
/// // ... work in this program, while others block in migration.wait()
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
    /// Creates a handle of the barrier with this key. It sends nothing.
    pub fn new(client: &Client, key: impl IntoBytes) -> Self {
        Barrier {
            client: client.clone(),
            key: key.into_bytes(),
        }
    }

    /// Creates the key of the barrier, so that [`wait`](Barrier::wait) blocks until it is
    /// [released](Barrier::release) by any program.
    ///
    /// Blocks for the client's timeout at most.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) when the barrier is already held; otherwise as
    /// [`Client::put`].
    pub fn hold(&self) -> Result<()> {
        self.create(Put::new(self.key.clone(), ""))
    }

    /// Creates the key of the barrier under a lease: the barrier is released when the lease ends, for
    /// example because its program crashed.
    ///
    /// # Errors
    ///
    /// As [`hold`](Barrier::hold), and [`LeaseNotFound`](ErrorKind::LeaseNotFound).
    pub fn hold_on_lease(&self, lease: LeaseId) -> Result<()> {
        self.create(Put::new(self.key.clone(), "").lease(lease))
    }

    fn create(&self, put: Put) -> Result<()> {
        let about = || Operation::on("hold", KeyRange::key(self.key.clone()));
        // A version of 0 means that the key does not exist.
        let free = Compare::version(self.key.clone()).eq(0);
        let held = self.client.txn(Txn::when([free]).then([put]));
        if held.map_err(|error| error.operation(about()))?.succeeded() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::AlreadyExists, "the barrier is already held").operation(about()))
    }

    /// Deletes the key of the barrier, so that all waiting programs continue.
    ///
    /// Releasing a barrier that is not held is not an error.
    ///
    /// # Errors
    ///
    /// As [`Client::delete`].
    pub fn release(&self) -> Result<()> {
        self.client.delete(self.key.clone())?;
        Ok(())
    }

    /// Blocks while the barrier is held, without a limit in time. It uses a watch, and does not poll.
    ///
    /// # Errors
    ///
    /// As [`Client::call`] and [`Client::watch`].
    pub fn wait(&self) -> Result<()> {
        self.wait_timeout(Duration::MAX)
    }

    /// Blocks while the barrier is held, for at most `timeout` and one call.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) when it is still held after `timeout`; otherwise as
    /// [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<()> {
        let begun = Instant::now();
        let about = || Operation::on("wait for barrier", KeyRange::key(self.key.clone()));
        loop {
            let get = self.client.call(Get::key(self.key.clone()).keys_only())?;
            if get.first().is_none() {
                return Ok(());
            }
            // A watch from the next revision misses no deletion.
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
                Ok(Err(error)) if !events_are_missing(&error) => {
                    return Err(error.operation(about()));
                }
                // Events are missing: the next iteration reads the key again.
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {}
            }
        }
    }
}

//! A first-in, first-out queue.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::element::{self, Element};
use crate::client::Client;
use crate::error::{Operation, Result};
use crate::rpc::kv::{Compare, Get, Put, SortOrder, SortTarget, Txn};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;

/// A first-in, first-out queue in etcd. Each element goes to one consumer.
///
/// Elements are keys `<prefix>/<nanoseconds since 1970>`, as in Go's `recipe.Queue`, so that Go programs
/// can share the queue. Their order is that of the revisions that enqueued them, and does not depend on
/// clocks. A consumer takes an element by deleting it under the condition that it still exists, so that
/// no two consumers get the same one.
///
/// If a consumer crashes after it took an element, the element is lost. The size of an element is
/// limited by that of a request (1.5 MiB by default, `--max-request-bytes`).
///
/// ```
/// use etcd_blocking::{Client, concurrency::Queue};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = etcd_blocking::local::LocalEtcd::start()?;
/// # let client = Client::connect([etcd.endpoint()])?;
/// let jobs = Queue::new(&client, "jobs");
/// jobs.enqueue("resize 1.png")?;
/// let job = jobs.dequeue()?;
/// assert_eq!(job.value(), "resize 1.png");
/// assert!(jobs.try_dequeue()?.is_none());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    /// With the slash.
    prefix: Bytes,
}

impl Queue {
    /// Creates a handle of the queue with this name. Its elements are all keys that begin with
    /// `<prefix>/`.
    pub fn new(client: &Client, prefix: impl AsRef<[u8]>) -> Self {
        Queue {
            client: client.clone(),
            prefix: [prefix.as_ref(), b"/"].concat().into(),
        }
    }

    /// Adds an element at the end, and returns its key. Blocks for one round trip.
    ///
    /// # Errors
    ///
    /// As [`Client::put`]. After an [unknown outcome](crate::Error::outcome_unknown) the element may
    /// be in the queue or already consumed; the text names its key.
    pub fn enqueue(&self, value: impl IntoBytes) -> Result<Bytes> {
        let value = value.into_bytes();
        loop {
            let key = [&self.prefix[..], nanos().to_string().as_bytes()].concat();
            let key = Bytes::from(key);
            let enqueue = Txn::when([Compare::version(key.clone()).eq(0)])
                .then([Put::new(key.clone(), value.clone())]);
            let put = self.client.txn(enqueue).map_err(|error| {
                error.operation(Operation::on("enqueue", KeyRange::key(key.clone())))
            })?;
            if put.succeeded() {
                return Ok(key);
            }
            // Another producer used the same nanosecond.
        }
    }

    /// Takes the first element, and blocks until there is one. It uses a watch, and does not poll.
    ///
    /// # Errors
    ///
    /// As [`Client::call`] and [`Client::watch`]. After an
    /// [unknown outcome](crate::Error::outcome_unknown) the element may be deleted, and then no
    /// consumer gets it; the text names its key.
    pub fn dequeue(&self) -> Result<Element> {
        element::take(&self.client, &self.keys(), &self.first())
    }

    /// Takes the first element, and blocks for at most `timeout` and one call until there is one;
    /// otherwise returns `None`.
    ///
    /// # Errors
    ///
    /// As [`dequeue`](Self::dequeue).
    pub fn dequeue_timeout(&self, timeout: Duration) -> Result<Option<Element>> {
        element::take_within(&self.client, &self.keys(), &self.first(), timeout)
    }

    /// Takes the first element, or returns `None` if the queue is empty.
    ///
    /// # Errors
    ///
    /// As [`dequeue`](Queue::dequeue).
    pub fn try_dequeue(&self) -> Result<Option<Element>> {
        Ok(element::try_take(&self.client, &self.first())?.ok())
    }

    /// Returns the first element without taking it.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn peek(&self) -> Result<Option<Element>> {
        element::peek(&self.client, &self.first())
    }

    /// Returns the number of elements.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn count(&self) -> Result<u64> {
        Ok(self
            .client
            .call(Get::range(self.keys()).count_only())?
            .count())
    }

    fn keys(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    fn first(&self) -> Get {
        Get::range(self.keys()).sort(SortTarget::ModRevision, SortOrder::Ascend)
    }
}

/// The time in nanoseconds since 1970. It is probably unique; callers must check that.
pub(super) fn nanos() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos()
}

//! A queue that many programs fill and empty.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::element::{self, Element};
use crate::client::Client;
use crate::error::{Operation, Result};
use crate::rpc::kv::{Compare, Get, Put, SortOrder, SortTarget, Txn};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;

/// A queue in etcd: first in, first out, each element to one consumer.
///
/// Elements are keys `<prefix>/<nanoseconds since 1970>`, as Go's `recipe.Queue` has them, so that its
/// programs and ours share queues. Their order is the order of the revisions that enqueued them, not
/// of anybody's clock. Consumers claim an element by deleting it on the condition that it is still
/// there, so no two get the same one.
///
/// A consumer that dies after it took an element takes it along. An element is at most as large as
/// a request (1.5 MiB unless the server is told otherwise).
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
    /// The queue of this name. Its elements are all keys that begin with `<prefix>/`.
    pub fn new(client: &Client, prefix: impl AsRef<[u8]>) -> Self {
        Queue {
            client: client.clone(),
            prefix: [prefix.as_ref(), b"/"].concat().into(),
        }
    }

    /// Adds an element at the end and returns its key. Blocks for one round trip.
    ///
    /// # Errors
    ///
    /// As [`Client::put`]. After an [unknown outcome](crate::Error::outcome_unknown) the element may
    /// be in the queue, or may be consumed already; the text names its key.
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
            // Somebody else had the same nanosecond; the next one is another.
        }
    }

    /// Takes the first element; blocks until there is one. It waits without polling, in a watch.
    ///
    /// # Errors
    ///
    /// As [`Client::call`] and [`Client::watch`]. After an
    /// [unknown outcome](crate::Error::outcome_unknown) the element may be taken, and then nobody
    /// else gets it; the text names its key.
    pub fn dequeue(&self) -> Result<Element> {
        element::take(&self.client, &self.keys(), &self.first())
    }

    /// The same, for at most `timeout` and a call; `None` when there was none in that time.
    ///
    /// # Errors
    ///
    /// As [`dequeue`](Self::dequeue).
    pub fn dequeue_timeout(&self, timeout: Duration) -> Result<Option<Element>> {
        element::take_within(&self.client, &self.keys(), &self.first(), timeout)
    }

    /// Takes the first element if there is one.
    ///
    /// # Errors
    ///
    /// As [`dequeue`](Queue::dequeue).
    pub fn try_dequeue(&self) -> Result<Option<Element>> {
        Ok(element::try_take(&self.client, &self.first())?.ok())
    }

    /// The first element, left where it is.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn peek(&self) -> Result<Option<Element>> {
        element::peek(&self.client, &self.first())
    }

    /// How many elements there are.
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

/// A number that no other key of the recipes has, nearly surely: whoever uses it makes sure.
pub(super) fn nanos() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos()
}

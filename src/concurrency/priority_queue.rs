//! A queue whose elements have priorities.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::element::{self, Element};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::rpc::kv::{Compare, Get, GetResponse, Put, SortOrder, SortTarget, Txn};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::{KeyRange, Printed};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The wait after a conflict with another producer, from the second conflict on.
const CONFLICT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));

/// A queue in etcd with priorities: elements with the lowest number come first, and those of one
/// priority in the order of their enqueueing. Each element goes to one consumer.
///
/// Elements are keys `<key>/<priority, 5 digits>/<number, 16 digits>`, as in Go's
/// `recipe.PriorityQueue`, so that Go programs can share the queue. Producers coordinate the numbers with
/// a key `__<key>/<priority>`, which is not deleted.
///
/// Producers of the same priority conflict: a producer that lost a conflict tries again, for the
/// client's timeout at most.
///
/// ```
/// use etcd_blocking::{Client, concurrency::PriorityQueue};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = etcd_blocking::local::LocalEtcd::start()?;
/// # let client = Client::connect([etcd.endpoint()])?;
/// let jobs = PriorityQueue::new(&client, "jobs");
/// jobs.enqueue("tidy up", 10)?;
/// jobs.enqueue("put out the fire", 1)?;
/// let job = jobs.dequeue()?;
/// assert_eq!((job.priority(), &job.value()[..]), (Some(1), &b"put out the fire"[..]));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PriorityQueue {
    client: Client,
    /// With the slash.
    prefix: Bytes,
}

impl PriorityQueue {
    /// Creates a handle of the queue with this name. Its elements are all keys that begin with `<key>/`.
    pub fn new(client: &Client, key: impl AsRef<[u8]>) -> Self {
        PriorityQueue {
            client: client.clone(),
            prefix: [key.as_ref(), b"/"].concat().into(),
        }
    }

    /// Adds an element after those of the same priority, and returns its key.
    ///
    /// Blocks for two round trips, and for one more after each conflict with another producer.
    ///
    /// # Errors
    ///
    /// As [`Client::put`]; [`Conflict`](ErrorKind::Conflict) when it lost all conflicts during the
    /// client's timeout. After an [unknown outcome](Error::outcome_unknown) the element may be in the
    /// queue or already consumed; the text names its key.
    pub fn enqueue(&self, value: impl IntoBytes, priority: u16) -> Result<Bytes> {
        let value = value.into_bytes();
        let level = Bytes::from([&self.prefix[..], format!("{priority:05}").as_bytes()].concat());
        let base = Bytes::from([b"__", &level[..]].concat());
        let last = Get::prefix(level.clone())
            .sort(SortTarget::Key, SortOrder::Descend)
            .limit(1);
        let begun = Instant::now();
        let mut backoff = CONFLICT_BACKOFF;
        let mut tries = 1;
        let mut read = self.client.call(last.clone())?;
        loop {
            let number = next_number(&read)?;
            let key = Bytes::from([&level[..], format!("/{number:016}").as_bytes()].concat());
            // Without this condition a number that was used and consumed since the read could be
            // assigned twice.
            let current = Compare::mod_revision(base.clone()).lt(read.header().revision.next());
            let enqueue = Txn::when([current])
                .then([
                    Put::new(base.clone(), ""),
                    Put::new(key.clone(), value.clone()),
                ])
                .or_else([last.clone()]);
            let put = self.client.txn(enqueue).map_err(|error| {
                error.operation(Operation::on("enqueue", KeyRange::key(key.clone())))
            })?;
            if put.succeeded() {
                return Ok(key);
            }
            if begun.elapsed() >= self.client.timeout() {
                let reason = "every attempt conflicted with another producer of this priority";
                return Err(Error::new(ErrorKind::Conflict, reason)
                    .operation(Operation::on("enqueue", KeyRange::prefix(level)))
                    .tried(tries, begun.elapsed()));
            }
            read = match put.get(0) {
                // The refusal contains the last key, so the first retry needs no read.
                Some(read) if tries == 1 => read.clone(),
                _ => {
                    thread::sleep(backoff.next(jitter::fraction()));
                    self.client.call(last.clone())?
                }
            };
            tries += 1;
        }
    }

    /// Takes the first element, and blocks until there is one. It uses a watch, and does not poll.
    ///
    /// # Errors
    ///
    /// As [`Client::call`] and [`Client::watch`]. After an
    /// [unknown outcome](Error::outcome_unknown) the element may be deleted, and then no consumer gets
    /// it; the text names its key.
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
    /// As [`dequeue`](PriorityQueue::dequeue).
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
        Ok(self.client.call(self.first().count_only())?.count())
    }

    fn keys(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    /// The order of the keys is the order of the queue.
    fn first(&self) -> Get {
        Get::range(self.keys())
    }
}

/// The number after the last one that is in the queue.
fn next_number(last: &GetResponse) -> Result<u64> {
    let Some(kv) = last.first() else {
        // There is no element of this priority.
        return Ok(0);
    };
    let digits = kv.key().rsplit(|byte| *byte == b'/').next();
    let number: Option<u64> = digits
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok());
    number
        .and_then(|number| number.checked_add(1))
        .ok_or_else(|| {
            let reason = format!(
                "the key {:?} under the prefix of the queue is not an element of a priority queue: \
                 delete it, or use another name for the queue",
                Printed(kv.key())
            );
            Error::new(ErrorKind::FailedPrecondition, reason).operation(Operation::new("enqueue"))
        })
}

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

/// The wait after another producer was faster, from the second time on.
const BETWEEN: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));

/// A queue in etcd whose elements come out by priority, lowest number first, and those of one
/// priority in the order in which they went in; each goes to one consumer.
///
/// Elements are keys `<key>/<priority, 5 digits>/<number, 16 digits>`, as Go's `recipe.PriorityQueue`
/// has them, so that its programs and ours share queues. Producers agree on the numbers by a key
/// `__<key>/<priority>` beside the queue, which stays.
///
/// Producers of the same priority wait for each other: one that was overtaken tries again, for as
/// long as the client's timeout.
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
    /// The queue of this name. Its elements are all keys that begin with `<key>/`.
    pub fn new(client: &Client, key: impl AsRef<[u8]>) -> Self {
        PriorityQueue {
            client: client.clone(),
            prefix: [key.as_ref(), b"/"].concat().into(),
        }
    }

    /// Adds an element behind those of the same priority and returns its key. Blocks for two round
    /// trips, and for one more each time that another producer of this priority was faster.
    ///
    /// # Errors
    ///
    /// As [`Client::put`]; [`Conflict`](ErrorKind::Conflict) when others were faster for as long
    /// as the client's timeout. After an [unknown outcome](Error::outcome_unknown) the element may be
    /// in the queue, or may be consumed already; the text names its key.
    pub fn enqueue(&self, value: impl IntoBytes, priority: u16) -> Result<Bytes> {
        let value = value.into_bytes();
        let level = Bytes::from([&self.prefix[..], format!("{priority:05}").as_bytes()].concat());
        let base = Bytes::from([b"__", &level[..]].concat());
        let last = Get::prefix(level.clone())
            .sort(SortTarget::Key, SortOrder::Descend)
            .limit(1);
        let begun = Instant::now();
        let mut backoff = BETWEEN;
        let mut tries = 1;
        let mut read = self.client.call(last.clone())?;
        loop {
            let number = next_number(&read)?;
            let key = Bytes::from([&level[..], format!("/{number:016}").as_bytes()].concat());
            // Else a number could be given twice: one that was taken and consumed since the read.
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
                let reason = "other producers of this priority were faster each time";
                return Err(Error::new(ErrorKind::Conflict, reason)
                    .operation(Operation::on("enqueue", KeyRange::prefix(level)))
                    .tried(tries, begun.elapsed()));
            }
            read = match put.get(0) {
                Some(read) if tries == 1 => read.clone(),
                _ => {
                    thread::sleep(backoff.next(jitter::fraction()));
                    self.client.call(last.clone())?
                }
            };
            tries += 1;
        }
    }

    /// Takes the first element of the lowest number; blocks until there is one. It waits without polling, in a watch.
    ///
    /// # Errors
    ///
    /// As [`Client::call`] and [`Client::watch`]. After an
    /// [unknown outcome](Error::outcome_unknown) the element may be taken, and then nobody
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
    /// As [`dequeue`](PriorityQueue::dequeue).
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
                "the key {:?} is in the way: it is no element of a priority queue",
                Printed(kv.key())
            );
            Error::new(ErrorKind::FailedPrecondition, reason).operation(Operation::new("enqueue"))
        })
}

//! The elements of queues, and how one of several consumers takes an element.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::RecvTimeoutError;

use super::events_are_missing;
use crate::client::Client;
use crate::error::{Error, Operation, Result};
use crate::rpc::kv::{Compare, Delete, Get, Txn};
use crate::rpc::watch::Watch;
use crate::types::key_range::{KeyRange, Printed};
use crate::types::{KeyValue, Revision};

/// The number of elements in one read. A consumer that loses the first to another one tries the next.
const READ_AT_ONCE: u32 = 8;

/// An element of a [`Queue`](crate::concurrency::Queue) or a [`PriorityQueue`](crate::concurrency::PriorityQueue).
///
/// ```no_run
/// use etcd_blocking::concurrency::Queue;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let job = Queue::new(&client, "jobs").dequeue()?;
/// println!("{:?}, enqueued at {:?}", job.value(), job.revision());
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Element {
    kv: KeyValue,
}

impl Element {
    /// Returns its key, which identifies the element.
    pub fn key(&self) -> &Bytes {
        self.kv.key()
    }

    /// Returns the value.
    pub fn value(&self) -> &Bytes {
        self.kv.value()
    }

    /// Returns the value, and consumes the element.
    pub fn into_value(self) -> Bytes {
        self.kv.value
    }

    /// Returns the revision at which it was enqueued.
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision()
    }

    /// Returns its priority, if it belongs to a [`PriorityQueue`](crate::concurrency::PriorityQueue).
    pub fn priority(&self) -> Option<u16> {
        let mut fields = self.kv.key().rsplit(|byte| *byte == b'/').skip(1);
        let digits = fields.next().filter(|digits| digits.len() == 5)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

/// Without the value, which can be large or secret.
impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Element")
            .field("key", &Printed(self.key()))
            .field("value_len", &self.value().len())
            .field("revision", &self.revision())
            .finish()
    }
}

/// Reads the first element.
pub(super) fn peek(client: &Client, first: &Get) -> Result<Option<Element>> {
    let kvs = client.call(first.clone().limit(1))?.into_kvs();
    Ok(kvs.into_iter().next().map(|kv| Element { kv }))
}

/// Takes the first element, or returns the revision at which the queue was empty.
pub(super) fn try_take(client: &Client, first: &Get) -> Result<Result<Element, Revision>> {
    loop {
        let response = client.call(first.clone().limit(READ_AT_ONCE))?;
        let revision = response.header().revision;
        let kvs = response.into_kvs();
        if kvs.is_empty() {
            return Ok(Err(revision));
        }
        for kv in kvs {
            if claim(client, &kv)? {
                return Ok(Ok(Element { kv }));
            }
        }
        // Other consumers took all of them, and there may be more.
    }
}

/// Deletes an element if it still exists. Only one consumer succeeds.
fn claim(client: &Client, kv: &KeyValue) -> Result<bool> {
    let there = Compare::mod_revision(kv.key().clone()).eq(kv.mod_revision());
    let claim = client.txn(Txn::when([there]).then([Delete::key(kv.key().clone())]));
    let named = |error: Error| error.operation(Operation::on("dequeue", kv.key().clone().into()));
    Ok(claim.map_err(named)?.succeeded())
}

/// Takes the first element, and waits until there is one.
pub(super) fn take(client: &Client, keys: &KeyRange, first: &Get) -> Result<Element> {
    loop {
        // `take_within` returns `None` only after the whole duration.
        if let Some(element) = take_within(client, keys, first, Duration::MAX)? {
            return Ok(element);
        }
    }
}

pub(super) fn take_within(
    client: &Client,
    keys: &KeyRange,
    first: &Get,
    timeout: Duration,
) -> Result<Option<Element>> {
    let begun = Instant::now();
    let mut watcher = None;
    loop {
        let empty_at = match try_take(client, first)? {
            Ok(element) => return Ok(Some(element)),
            Err(revision) => revision,
        };
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        let puts = match watcher.take() {
            Some(puts) => puts,
            None => client.watch(Watch::range(keys.clone()).after(empty_at).no_delete())?,
        };
        match puts.recv_timeout(left) {
            Ok(Ok(_)) => {
                // One read of the queue covers all events that are waiting.
                while let Ok(Ok(_)) = puts.try_recv() {}
                watcher = Some(puts);
            }
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Ok(Err(error)) if !events_are_missing(&error) => {
                return Err(error.operation(Operation::on("dequeue", keys.clone())));
            }
            // Reading the queue again shows the elements that the watch missed.
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {}
        }
    }
}

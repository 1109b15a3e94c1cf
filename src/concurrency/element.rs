//! What queues hold, and how one of several consumers gets it.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::RecvTimeoutError;

use super::missed;
use crate::client::Client;
use crate::error::{Error, Operation, Result};
use crate::rpc::kv::{Compare, Delete, Get, Txn};
use crate::rpc::watch::Watch;
use crate::types::key_range::{KeyRange, Printed};
use crate::types::{KeyValue, Revision};

/// Elements to read at once: who loses the first to another consumer tries the next.
const READ: u32 = 8;

/// An element of a [`Queue`](crate::concurrency::Queue) or a [`PriorityQueue`](crate::concurrency::PriorityQueue).
#[derive(Clone, PartialEq, Eq)]
pub struct Element {
    kv: KeyValue,
}

impl Element {
    /// The key it had: which element it is.
    pub fn key(&self) -> &Bytes {
        self.kv.key()
    }

    /// What was enqueued.
    pub fn value(&self) -> &Bytes {
        self.kv.value()
    }

    /// What was enqueued, to keep.
    pub fn into_value(self) -> Bytes {
        self.kv.value
    }

    /// When it was enqueued.
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision()
    }

    /// Its priority, if it is of a [`PriorityQueue`](crate::concurrency::PriorityQueue).
    pub fn priority(&self) -> Option<u16> {
        let mut fields = self.kv.key().rsplit(|byte| *byte == b'/').skip(1);
        let digits = fields.next().filter(|digits| digits.len() == 5)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

/// Values can be large and can be secret.
impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Element")
            .field("key", &Printed(self.key()))
            .field("value_len", &self.value().len())
            .field("revision", &self.revision())
            .finish()
    }
}

/// The first element, left where it is.
pub(super) fn peek(client: &Client, first: &Get) -> Result<Option<Element>> {
    let kvs = client.call(first.clone().limit(1))?.into_kvs();
    Ok(kvs.into_iter().next().map(|kv| Element { kv }))
}

/// Takes the first element; with none there, the revision at which there was none.
pub(super) fn try_take(client: &Client, first: &Get) -> Result<Result<Element, Revision>> {
    loop {
        let response = client.call(first.clone().limit(READ))?;
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
        // Others took them all: the queue moves, and there may be more.
    }
}

/// Deletes an element if nobody did before, which only one consumer can.
fn claim(client: &Client, kv: &KeyValue) -> Result<bool> {
    let there = Compare::mod_revision(kv.key().clone()).eq(kv.mod_revision());
    let claim = client.txn(Txn::when([there]).then([Delete::key(kv.key().clone())]));
    let named = |error: Error| error.operation(Operation::on("dequeue", kv.key().clone().into()));
    Ok(claim.map_err(named)?.succeeded())
}

/// Takes the first element, and waits for one when there is none.
pub(super) fn take(client: &Client, keys: &KeyRange, first: &Get) -> Result<Element> {
    loop {
        // For ever is a time that has no end on this clock.
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
                // One look at the queue is enough for all that waits here.
                while let Ok(Ok(_)) = puts.try_recv() {}
                watcher = Some(puts);
            }
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Ok(Err(error)) if !missed(&error) => {
                return Err(error.operation(Operation::on("dequeue", keys.clone())));
            }
            // Looking again says what the watch missed.
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {}
        }
    }
}

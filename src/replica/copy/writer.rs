//! The destination's end: transactions, each on the condition that nobody else was there since the last.

use bytes::Bytes;

use super::batch::{Batch, Change};
use crate::client::Client;
use crate::concurrency::nest::nested;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Delete, Get, Op, Put, Txn};
use crate::types::Revision;
use crate::util::jitter;

/// The progress as it stands in the destination: `<cluster> <revision> <run>-<number>`. The run and
/// number tell whose transaction it was.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) cluster: u64,
    /// None while a list is being written.
    pub(super) revision: Revision,
}

impl Mark {
    fn read(value: &[u8]) -> Option<Mark> {
        let mut fields = std::str::from_utf8(value).ok()?.split(' ');
        let cluster = u64::from_str_radix(fields.next()?, 16).ok()?;
        let revision = Revision::new(fields.next()?.parse().ok()?);
        Some(Mark { cluster, revision })
    }

    fn value(&self, run: u64, number: u64) -> Bytes {
        let Mark { cluster, revision } = self;
        format!("{cluster:x} {revision} {run:x}-{number}").into()
    }
}

/// What keeps the progress in the destination.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) key: Bytes,
    run: u64,
    number: u64,
    /// When it was last changed by us, or read.
    at: Revision,
}

/// What came of a try to write.
pub(super) enum Tried {
    Written,
    /// It is not known, or proven that it was not; the same again.
    Again(Error),
    Failed(Error),
}

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) list: usize,
    pub(super) checkpoint: Option<Checkpoint>,
}

impl Writer {
    /// Reads the progress that is there.
    pub(super) fn open(&mut self, key: Bytes) -> Result<Option<Mark>> {
        let found = self.client.get(key.clone())?;
        let (at, mark) = match &found {
            Some(kv) => (kv.mod_revision(), Some(Mark::read(kv.value()))),
            None => (Revision::NONE, None),
        };
        if mark == Some(None) {
            let reason = "the key of the checkpoint holds something else: is it the right one?";
            return Err(Error::new(ErrorKind::FailedPrecondition, reason));
        }
        self.checkpoint = Some(Checkpoint {
            key,
            run: jitter::number(),
            number: 0,
            at,
        });
        Ok(mark.flatten())
    }

    /// Tries to write a batch once. After [`Tried::Again`] the same batch has to be next, with
    /// `again` set.
    pub(super) fn write(&mut self, batch: &Batch, mark: &Mark, again: bool) -> Tried {
        let mut ops: Vec<Op> = batch.changes.iter().map(op).collect();
        let Some(checkpoint) = &mut self.checkpoint else {
            return match self.client.txn(Txn::always(nested(ops, self.list))) {
                Ok(_) => Tried::Written,
                Err(error) => tried(error),
            };
        };
        if !again {
            checkpoint.number += 1;
        }
        let value = mark.value(checkpoint.run, checkpoint.number);
        ops.push(Put::new(checkpoint.key.clone(), value.clone()).into());
        let untouched = Compare::mod_revision(checkpoint.key.clone()).eq(checkpoint.at);
        let txn = Txn::when([untouched])
            .then(nested(ops, self.list))
            .or_else([Get::key(checkpoint.key.clone())]);
        let response = match self.client.txn(txn) {
            Ok(response) => response,
            Err(error) => return tried(error),
        };
        if response.succeeded() {
            checkpoint.at = response.revision();
            return Tried::Written;
        }
        match response.get(0).and_then(|get| get.first()) {
            // An earlier try whose answer was lost.
            Some(kv) if again && *kv.value() == value => {
                checkpoint.at = kv.mod_revision();
                Tried::Written
            }
            _ => {
                let reason = "the checkpoint is not as this mirror left it: there is a second \
                              mirror, or the destination lost data";
                Tried::Failed(Error::new(ErrorKind::Conflict, reason))
            }
        }
    }
}

fn op(change: &Change) -> Op {
    match change {
        Change::Put(key, value) => Put::new(key.clone(), value.clone()).into(),
        Change::Delete(key) => Delete::key(key.clone()).into(),
    }
}

fn tried(error: Error) -> Tried {
    if is_passing(&error) {
        Tried::Again(error)
    } else {
        Tried::Failed(error)
    }
}

/// Whether trying again later can help. Writes are repeated also when their outcome is unknown: the
/// same puts and deletions once more make no difference.
pub(super) fn is_passing(error: &Error) -> bool {
    use ErrorKind::{RateLimited, Timeout, Tls, Unavailable};

    // A copy runs for months: certificates are replaced meanwhile, and put right again.
    matches!(error.kind(), Unavailable | Timeout | RateLimited | Tls)
}

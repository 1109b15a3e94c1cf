//! Writer of the destination: one transaction per batch, conditional on an unchanged checkpoint.

use bytes::Bytes;

use super::batch::{CopyBatch, KeyWrite};
use crate::client::Client;
use crate::concurrency::nest::nested;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Compare, Delete, Get, Op, Put, Txn};
use crate::types::Revision;
use crate::util::jitter;

/// Progress as stored in the checkpoint: `<cluster> <revision> <run>-<number>`. Run and number identify the
/// transaction that wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) cluster: u64,
    /// [`Revision::NONE`] while a list is being written.
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

/// The key of the destination that stores the progress.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) key: Bytes,
    run: u64,
    number: u64,
    /// The mod_revision after this writer's last write or read.
    mod_revision: Revision,
}

/// Outcome of one attempt to write a batch.
pub(super) enum WriteOutcome {
    Written,
    /// Not written, or unknown: repeat the same batch.
    Again(Error),
    Failed(Error),
}

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) client: Client,
    /// Maximum number of operations in a list.
    pub(super) list: usize,
    pub(super) checkpoint: Option<Checkpoint>,
}

impl Writer {
    /// Reads the stored progress and uses `key` as the checkpoint from now on.
    pub(super) fn open(&mut self, key: Bytes) -> Result<Option<Mark>> {
        let found = self.client.get(key.clone())?;
        let (mod_revision, mark) = match &found {
            Some(kv) => (kv.mod_revision(), Some(Mark::read(kv.value()))),
            None => (Revision::NONE, None),
        };
        // A value of another program is not overwritten.
        if mark == Some(None) {
            let reason =
                "the checkpoint key has a value that is not a checkpoint; choose another key";
            return Err(Error::new(ErrorKind::FailedPrecondition, reason));
        }
        self.checkpoint = Some(Checkpoint {
            key,
            // Distinguishes the writes of this run from those of another copier.
            run: jitter::number(),
            number: 0,
            mod_revision,
        });
        Ok(mark.flatten())
    }

    /// Tries once to write a batch. After [`WriteOutcome::Again`] the caller repeats the same batch with
    /// `again` set.
    pub(super) fn write(&mut self, batch: &CopyBatch, mark: &Mark, again: bool) -> WriteOutcome {
        let mut ops: Vec<Op> = batch.changes.iter().map(op).collect();
        let Some(checkpoint) = &mut self.checkpoint else {
            return match self.client.txn(Txn::always(nested(ops, self.list))) {
                Ok(_) => WriteOutcome::Written,
                Err(error) => failed(error),
            };
        };
        // A repeated write has the same number, which shows that an earlier attempt has succeeded.
        if !again {
            checkpoint.number += 1;
        }
        let value = mark.value(checkpoint.run, checkpoint.number);
        ops.push(Put::new(checkpoint.key.clone(), value.clone()).into());
        // The condition fails if an earlier attempt was executed, or another copier wrote.
        let untouched = Compare::mod_revision(checkpoint.key.clone()).eq(checkpoint.mod_revision);
        let txn = Txn::when([untouched])
            .then(nested(ops, self.list))
            .or_else([Get::key(checkpoint.key.clone())]);
        let response = match self.client.txn(txn) {
            Ok(response) => response,
            Err(error) => return failed(error),
        };
        if response.succeeded() {
            checkpoint.mod_revision = response.revision();
            return WriteOutcome::Written;
        }
        match response.get(0).and_then(|get| get.first()) {
            // An earlier attempt, whose response was lost, has succeeded.
            Some(kv) if again && *kv.value() == value => {
                checkpoint.mod_revision = kv.mod_revision();
                WriteOutcome::Written
            }
            _ => {
                let reason = "the checkpoint was changed by another writer: a second copier uses \
                              the same key, or the destination lost data";
                WriteOutcome::Failed(Error::new(ErrorKind::Conflict, reason))
            }
        }
    }
}

fn op(change: &KeyWrite) -> Op {
    match change {
        KeyWrite::Put(key, value) => Put::new(key.clone(), value.clone()).into(),
        KeyWrite::Delete(key) => Delete::key(key.clone()).into(),
    }
}

fn failed(error: Error) -> WriteOutcome {
    if is_transient(&error) {
        WriteOutcome::Again(error)
    } else {
        WriteOutcome::Failed(error)
    }
}

/// Returns whether a later attempt may succeed. Writes of unknown outcome are repeated too: the same puts and
/// deletions have the same effect.
pub(super) fn is_transient(error: &Error) -> bool {
    use ErrorKind::{RateLimited, Timeout, Tls, Unavailable};

    // TLS errors are transient: a copy runs for months, while certificates are replaced.
    matches!(error.kind(), Unavailable | Timeout | RateLimited | Tls)
}

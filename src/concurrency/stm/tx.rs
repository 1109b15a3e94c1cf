//! The handle with which the function of a transaction reads and writes.

use std::fmt;

use bytes::Bytes;

use super::super::nest::{flat, most, nested};
use super::attempt::{Attempt, Fetched, ReadAt, Write};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Get, Op, OpResponse, Txn};
use crate::types::into_bytes::IntoBytes;
use crate::types::{KeyValue, LeaseId, Revision};

/// A transaction of an [`Stm`](crate::concurrency::Stm) while its function runs.
///
/// Each key is read from etcd once per attempt. A read returns the value that the function
/// [put](Tx::put) or [deleted](Tx::delete) before. Writes stay in memory until the function has returned.
///
/// A failed read makes the transaction fail, even if the function ignores the error.
///
/// ```no_run
/// use etcd_blocking::Result;
/// use etcd_blocking::concurrency::Tx;
///
/// fn rename(tx: &mut Tx<'_>) -> Result<()> {
///     if let Some(value) = tx.get("old")? {
///         tx.put("new", value);
///         tx.delete("old");
///     }
///     Ok(())
/// }
/// ```
pub struct Tx<'a> {
    client: &'a Client,
    pub(super) attempt: Attempt,
    pub(super) number: u32,
    pub(super) failed: Option<Failed>,
}

/// The reason why an attempt cannot commit any more.
pub(super) enum Failed {
    /// The revision that it reads is compacted. This counts as a conflict.
    Compacted,
    /// A read failed.
    Call(Error),
}

impl<'a> Tx<'a> {
    pub(super) fn new(client: &'a Client, attempt: Attempt, number: u32) -> Self {
        Tx {
            client,
            attempt,
            number,
            failed: None,
        }
    }

    /// Returns the value of a key, or `None` if it does not exist. Blocks for one round trip at the first
    /// read of the key.
    ///
    /// # Errors
    ///
    /// As [`Client::call`]. Return them from the function with `?`: the attempt has failed.
    pub fn get(&mut self, key: impl IntoBytes) -> Result<Option<Bytes>> {
        let key = key.into_bytes();
        // The function's own write is returned without a read.
        if let Some(written) = self.attempt.written(&key) {
            return Ok(written);
        }
        self.fetch(std::slice::from_ref(&key))?;
        Ok(self.attempt.read(&key).map(|kv| kv.value().clone()))
    }

    /// Returns the values of several keys, in their order. Blocks for one round trip if some were not read
    /// before.
    ///
    /// # Errors
    ///
    /// As [`get`](Tx::get).
    pub fn get_all(
        &mut self,
        keys: impl IntoIterator<Item = impl IntoBytes>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<Bytes> = keys.into_iter().map(IntoBytes::into_bytes).collect();
        let unwritten = keys
            .iter()
            .filter(|key| self.attempt.written(key).is_none());
        self.fetch(&unwritten.cloned().collect::<Vec<_>>())?;
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Returns the key with its revisions as it is stored in etcd, without the writes of this transaction.
    ///
    /// # Errors
    ///
    /// As [`get`](Tx::get).
    pub fn stored(&mut self, key: impl IntoBytes) -> Result<Option<KeyValue>> {
        let key = key.into_bytes();
        self.fetch(std::slice::from_ref(&key))?;
        Ok(self.attempt.read(&key).cloned())
    }

    /// Puts a value under a key when the transaction commits.
    pub fn put(&mut self, key: impl IntoBytes, value: impl IntoBytes) {
        self.attempt
            .write(key.into_bytes(), Write::Put(value.into_bytes(), None));
    }

    /// Puts a value under a key that is attached to a lease, when the transaction commits.
    pub fn put_on_lease(&mut self, key: impl IntoBytes, value: impl IntoBytes, lease: LeaseId) {
        self.attempt.write(
            key.into_bytes(),
            Write::Put(value.into_bytes(), Some(lease)),
        );
    }

    /// Deletes a key when the transaction commits.
    pub fn delete(&mut self, key: impl IntoBytes) {
        self.attempt.write(key.into_bytes(), Write::Delete);
    }

    /// Returns the number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.number
    }

    /// Reads the keys that are not fetched yet.
    pub(super) fn fetch(&mut self, keys: &[Bytes]) -> Result<()> {
        match &self.failed {
            Some(Failed::Call(error)) => return Err(error.clone()),
            Some(Failed::Compacted) => return Err(compacted()),
            None => {}
        }
        let mut missing: Vec<Bytes> = keys.to_vec();
        missing.retain(|key| !self.attempt.is_fetched(key));
        // Each key is read once, however often it is named.
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        // Keys beyond the limit are read by further transactions, at the revision of the first one.
        for keys in missing.chunks(most(self.client.max_txn_ops())) {
            match self.read(keys.to_vec(), self.attempt.read_at()) {
                Ok((revision, found)) => self.attempt.record(revision, found),
                Err(error) if error.kind() == ErrorKind::Compacted => {
                    // The attempt cannot read its revision any more; the next one has a newer
                    // revision.
                    self.failed = Some(Failed::Compacted);
                    return Err(error);
                }
                Err(error) => {
                    self.failed = Some(Failed::Call(error.clone()));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn read(&self, keys: Vec<Bytes>, at: ReadAt) -> Result<(Revision, Fetched)> {
        // A pinned read may be serializable: every member that has the revision returns the same.
        let ReadAt::Pinned(revision) = at else {
            let local = at == ReadAt::Local;
            return read(self.client, keys, |get| {
                if local { get.serializable() } else { get }
            });
        };
        let here = read(self.client, keys.clone(), |get| {
            get.revision(revision).serializable()
        });
        match here {
            // This member has not reached the revision of the first answer.
            Err(error) if error.kind() == ErrorKind::FutureRevision => {
                read(self.client, keys, |get| get.revision(revision))
            }
            read => read,
        }
    }
}

/// Reads at most [`most`] keys at one revision, in one request.
fn read(
    client: &Client,
    keys: Vec<Bytes>,
    option: impl Fn(Get) -> Get,
) -> Result<(Revision, Fetched)> {
    if let [key] = &*keys {
        let response = client.call(option(Get::key(key.clone())))?;
        let revision = response.header().revision;
        let kv = response.into_kvs().into_iter().next();
        return Ok((revision, Fetched::from([(key.clone(), kv)])));
    }
    let gets: Vec<Op> = keys
        .iter()
        .map(|key| option(Get::key(key.clone())).into())
        .collect();
    let response = client.txn(Txn::always(nested(gets, client.max_txn_ops())))?;
    let answers = flat(response.responses());
    if answers.len() != keys.len() {
        let reason = format!("{} answers to {} reads", answers.len(), keys.len());
        return Err(Error::new(ErrorKind::Protocol, reason));
    }
    let kv = |answer: &OpResponse| match answer {
        OpResponse::Get(get) => get.first().cloned(),
        _ => None,
    };
    let found = keys.into_iter().zip(answers.into_iter().map(kv));
    Ok((response.revision(), found.collect()))
}

fn compacted() -> Error {
    let reason = "the revision that the transaction reads was compacted meanwhile";
    Error::new(ErrorKind::Compacted, reason)
}

/// Shows only the numbers of keys: values can be secret.
impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("attempt", &self.number)
            .field("reads", &self.attempt.read_keys().count())
            .field("writes", &self.attempt.ops().len())
            .finish_non_exhaustive()
    }
}

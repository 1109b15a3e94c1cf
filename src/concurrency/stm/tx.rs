//! What the function of a transaction works with.

use std::fmt;

use bytes::Bytes;

use super::super::nest::{flat, most, nested};
use super::attempt::{Attempt, Found, ReadAt, Write};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::kv::{Get, Op, OpResponse, Txn};
use crate::types::into_bytes::IntoBytes;
use crate::types::{KeyValue, LeaseId, Revision};

/// A transaction of an [`Stm`](crate::concurrency::Stm) while its function runs.
///
/// Reads ask etcd once per key and attempt; what was [put](Tx::put) or [deleted](Tx::delete) before
/// is read back. Writes stay in memory until the function has returned.
///
/// A read that failed makes the transaction fail, also when the function goes on without it.
pub struct Tx<'a> {
    client: &'a Client,
    pub(super) attempt: Attempt,
    pub(super) number: u32,
    pub(super) failed: Option<Failed>,
}

/// Why an attempt cannot commit any more.
pub(super) enum Failed {
    /// The revision that it reads is compacted: one more conflict.
    Overtaken,
    For(Error),
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

    /// The value of a key, or `None` when it does not exist. Blocks for one round trip when it is read
    /// for the first time.
    ///
    /// # Errors
    ///
    /// As [`Client::call`]. Hand them on with `?`: the attempt is over.
    pub fn get(&mut self, key: impl IntoBytes) -> Result<Option<Bytes>> {
        let key = key.into_bytes();
        if let Some(written) = self.attempt.written(&key) {
            return Ok(written);
        }
        self.fetch(std::slice::from_ref(&key))?;
        Ok(self.attempt.look(&key).map(|kv| kv.value().clone()))
    }

    /// The values of several keys, in the order of the keys and in one round trip.
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

    /// The key with its revisions as etcd has it, whatever this transaction writes to it.
    ///
    /// # Errors
    ///
    /// As [`get`](Tx::get).
    pub fn stored(&mut self, key: impl IntoBytes) -> Result<Option<KeyValue>> {
        let key = key.into_bytes();
        self.fetch(std::slice::from_ref(&key))?;
        Ok(self.attempt.look(&key).cloned())
    }

    /// Stores a value under a key when the transaction commits.
    pub fn put(&mut self, key: impl IntoBytes, value: impl IntoBytes) {
        self.attempt
            .write(key.into_bytes(), Write::Put(value.into_bytes(), None));
    }

    /// The same, with the key on a lease.
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

    /// Which attempt this is, from 1 on: how often the function has run, this time included.
    pub fn attempt(&self) -> u32 {
        self.number
    }

    /// Reads those keys that are not known yet.
    pub(super) fn fetch(&mut self, keys: &[Bytes]) -> Result<()> {
        match &self.failed {
            Some(Failed::For(error)) => return Err(error.clone()),
            Some(Failed::Overtaken) => return Err(overtaken()),
            None => {}
        }
        let mut missing: Vec<Bytes> = keys.to_vec();
        missing.retain(|key| !self.attempt.knows(key));
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        // What one transaction does not hold is read by several: those after the first read what that
        // one fixed, as every later read does.
        for keys in missing.chunks(most(self.client.max_txn_ops())) {
            match self.read(keys.to_vec(), self.attempt.read_at()) {
                Ok((revision, found)) => self.attempt.learn(revision, found),
                Err(error) if error.kind() == ErrorKind::Compacted => {
                    self.failed = Some(Failed::Overtaken);
                    return Err(error);
                }
                Err(error) => {
                    self.failed = Some(Failed::For(error.clone()));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn read(&self, keys: Vec<Bytes>, at: ReadAt) -> Result<(Revision, Found)> {
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
            // This member is behind the one that answered first.
            Err(error) if error.kind() == ErrorKind::FutureRevision => {
                read(self.client, keys, |get| get.revision(revision))
            }
            read => read,
        }
    }
}

/// Reads keys at one revision, in one request: no more than [`most`].
fn read(
    client: &Client,
    keys: Vec<Bytes>,
    option: impl Fn(Get) -> Get,
) -> Result<(Revision, Found)> {
    if let [key] = &*keys {
        let response = client.call(option(Get::key(key.clone())))?;
        let revision = response.header().revision;
        let kv = response.into_kvs().into_iter().next();
        return Ok((revision, Found::from([(key.clone(), kv)])));
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

fn overtaken() -> Error {
    let reason = "the revision that the transaction reads was compacted meanwhile";
    Error::new(ErrorKind::Compacted, reason)
}

/// Shows keys' numbers only: values can be secret.
impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("attempt", &self.number)
            .field("reads", &self.attempt.looked_at().count())
            .field("writes", &self.attempt.ops().len())
            .finish_non_exhaustive()
    }
}

//! The verbs of the key-value service.

use super::Client;
use crate::client::pages::Pages;
use crate::error::Result;
use crate::rpc::kv::{
    Compact, CompactResponse, Delete, DeleteResponse, Get, Put, PutResponse, Txn, TxnResponse,
};
use crate::types::into_bytes::IntoBytes;
use crate::types::{KeyValue, Revision};

impl Client {
    /// Reads one key. Returns `None` when it does not exist.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// if let Some(kv) = client.get("color")? {
    ///     println!("{:?} since revision {:?}", kv.value_str(), kv.mod_revision());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn get(&self, key: impl IntoBytes) -> Result<Option<KeyValue>> {
        Ok(self.call(Get::key(key))?.into_kvs().into_iter().next())
    }

    /// Reads every key with this prefix, in one response. For very many keys see [`pages`](Client::pages).
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// for kv in client.get_prefix("config/")? {
    ///     println!("{} has {} bytes", kv.key_lossy(), kv.value().len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn get_prefix(&self, prefix: impl IntoBytes) -> Result<Vec<KeyValue>> {
        Ok(self.call(Get::prefix(prefix))?.into_kvs())
    }

    /// Stores a value under a key.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let put = client.put("color", "red")?;
    /// println!("written at revision {:?}", put.revision());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call). [`Error::outcome_unknown`](crate::Error::outcome_unknown) is
    /// true if it may have been stored nevertheless.
    pub fn put(&self, key: impl IntoBytes, value: impl IntoBytes) -> Result<PutResponse> {
        self.call(Put::new(key, value))
    }

    /// Deletes one key.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("it existed: {}", client.delete("color")?.deleted() == 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put).
    pub fn delete(&self, key: impl IntoBytes) -> Result<DeleteResponse> {
        self.call(Delete::key(key))
    }

    /// Deletes every key with this prefix. An empty prefix deletes all keys.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("{} keys deleted", client.delete_prefix("jobs/")?.deleted());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put).
    pub fn delete_prefix(&self, prefix: impl IntoBytes) -> Result<DeleteResponse> {
        self.call(Delete::prefix(prefix))
    }

    /// Runs a transaction. A transaction that only reads is repeated like any read.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// use etcd_blocking::{Compare, Get, Put, Txn};
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let create = Txn::when([Compare::missing("jobs/1")]).then([Put::new("jobs/1", "queued")]);
    /// let response = client.txn(create.or_else([Get::key("jobs/1")]))?;
    /// println!("created: {}", response.succeeded());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put).
    pub fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.call(txn)
    }

    /// Compacts the store: deletes the history before `revision`.
    ///
    /// Blocks for at most the client's [timeout](Client::timeout).
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let now = client.put("color", "red")?.revision();
    /// client.compact(now)?; // older revisions can no longer be read or watched
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`Compact`].
    pub fn compact(&self, revision: Revision) -> Result<CompactResponse> {
        self.call(Compact::at(revision))
    }

    /// Reads a large range in pages of `size` keys, all as of one revision: see [`Pages`].
    ///
    /// ```no_run
    /// use etcd_blocking::Get;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let mut count = 0;
    /// for page in client.pages(Get::prefix("log/").keys_only(), 1_000)? {
    ///     count += page?.len();
    /// }
    /// println!("{count} keys");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a request that cannot be paged:
    /// one with a limit, or sorted other than by key and ascending.
    pub fn pages(&self, get: Get, size: u32) -> Result<Pages> {
        Pages::new(self.clone(), get, size)
    }
}

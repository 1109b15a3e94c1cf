//! The verbs of the watch service.

use super::Client;
use crate::error::{Operation, Result};
use crate::rpc::request;
use crate::rpc::watch::{LatestSet, Watch, WatchContext as _, WatchSet, Watcher};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;

impl Client {
    /// Watches a key or a range: receives every change from now on, or from a revision on, in order and
    /// without a gap, also when connections and servers fail.
    ///
    /// Blocks until the server has the watch, at most for the client's timeout. All watches of a
    /// client share one stream.
    ///
    /// ```no_run
    /// # use etcd_blocking::{Client, KeyRange};
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = Client::connect(["http://127.0.0.1:2379"])?;
    /// let watcher = client.watch(KeyRange::prefix("svc/"))?;
    /// for response in &watcher {
    ///     println!("{:?}", response?.events());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an invalid watch, before anything
    /// is sent; what the server refuses it with, such as
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied);
    /// [`Timeout`](crate::ErrorKind::Timeout) or [`Unavailable`](crate::ErrorKind::Unavailable) when
    /// it was not created in time, and then it is cancelled. A start revision that is compacted is
    /// not among them: the server creates the watch first, and the error is its only item.
    pub fn watch(&self, watch: impl Into<Watch>) -> Result<Watcher> {
        let watch = self.confine(watch.into());
        let about = || Operation::about("watch", watch.keys());
        request::has_time(self.timeout).map_err(|error| error.operation(about()))?;
        let core = &self.core;
        core.watches.open(&core.bridge, watch, self.timeout)
    }

    /// Watches every key with this prefix, from now on: [`watch`](Client::watch) with
    /// [`KeyRange::prefix`].
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// for response in &client.watch_prefix("config/")? {
    ///     println!("{} changes", response?.events().len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`watch`](Client::watch).
    pub fn watch_prefix(&self, prefix: impl IntoBytes) -> Result<Watcher> {
        self.watch(KeyRange::prefix(prefix))
    }

    /// Creates an empty set of watches, which delivers many watches to one channel.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let set = client.watch_set()?;
    /// set.add("config/a")?;
    /// set.add("config/b")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) when the client is closed.
    pub fn watch_set(&self) -> Result<WatchSet> {
        WatchSet::open(Box::new(self.clone()), &*self.core.bridge)
    }

    /// Creates an empty set of watches of single keys that keeps the newest event of each key.
    ///
    /// It does not wait for etcd.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let set = client.latest_set()?;
    /// set.submit("leader/a")?;
    /// set.submit("leader/b")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) when the client is closed.
    pub fn latest_set(&self) -> Result<LatestSet> {
        LatestSet::open(Box::new(self.clone()), &*self.core.bridge)
    }
}

//! The limits of a client for the requests that it sends.

use super::Client;

impl Client {
    /// The largest request that this client sends, in bytes
    /// ([`ClientBuilder::send_limit`](crate::ClientBuilder::send_limit)).
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// assert_eq!(client.send_limit(), 2 << 20);
    /// # Ok(()) }
    /// ```
    pub fn send_limit(&self) -> usize {
        self.core.transport.settings().limits.send
    }

    /// The most operations that this client puts into one transaction, counted as etcd does
    /// ([`ClientBuilder::max_txn_ops`](crate::ClientBuilder::max_txn_ops)).
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// assert_eq!(client.max_txn_ops(), 128);
    /// # Ok(()) }
    /// ```
    pub fn max_txn_ops(&self) -> usize {
        self.core.transport.settings().limits.txn_ops
    }
}

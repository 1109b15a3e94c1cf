//! Watches beyond those of [`Client::watch`].

use super::Client;
use crate::error::Result;
use crate::rpc::watch::LatestSet;

impl Client {
    /// An empty set of watches of single keys that keeps the newest event of each.
    ///
    /// It does not wait for etcd.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) when the client is closed.
    pub fn latest_set(&self) -> Result<LatestSet> {
        let parts = self.core.watches.latest_set(&*self.core.bridge)?;
        Ok(LatestSet::new(Box::new(self.clone()), parts))
    }
}

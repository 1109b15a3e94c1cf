//! The metrics of a client.

use super::Client;
use crate::observe::Metrics;
use crate::runtime::clock;

impl Client {
    /// Returns the counters of this client and its clones: calls, connections, watches and leases.
    ///
    /// Counting is always on and costs a call some tens of nanoseconds. This sends nothing and does not block;
    /// it takes a few microseconds, and one more for every ten watches.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
    /// client.put("greeting", "hello")?;
    /// let metrics = client.metrics();
    /// assert_eq!(metrics.call("put").map(|put| put.ok), Some(1));
    /// println!("{metrics}");
    /// # Ok(()) }
    /// ```
    pub fn metrics(&self) -> Metrics {
        self.core.transport.telemetry().snapshot(clock::now())
    }
}

//! Probes of other servers, on the runtime of a client.

use std::time::Duration;

use super::Client;
use crate::rpc::probe::Probe;
use crate::runtime::{LostRequest, Pending};

impl Client {
    /// Asks a server of the user. The probe is no call of etcd: it is not counted in the metrics.
    pub(crate) fn probe(
        &self,
        probe: Probe,
        timeout: Duration,
    ) -> Pending<std::result::Result<(), String>> {
        let resolver = self.core.transport.settings().resolver.clone();
        let running = async move { Ok(probe.run(resolver, timeout).await) };
        self.core.bridge.submit_or(LostRequest::default(), running)
    }
}

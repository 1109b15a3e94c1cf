//! Reads and replaces the endpoints of a client.

use super::Client;
use super::into_endpoints::IntoEndpoints;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::connect::endpoint::parse_all;

impl Client {
    /// Returns the endpoints of this client: those that were configured, and those that were read from the
    /// member list. Does not block.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("{:?}", client.endpoints());
    /// # Ok(()) }
    /// ```
    pub fn endpoints(&self) -> Vec<String> {
        let texts = self.core.transport.endpoints();
        texts.iter().map(ToString::to_string).collect()
    }

    /// Replaces all endpoints of this client and its clones.
    ///
    /// Connections to endpoints that stay are kept. A connection to a removed endpoint accepts no new
    /// calls: calls in progress are answered, watches and leases move to another endpoint. Does not
    /// block.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.set_endpoints(["http://10.0.0.4:2379", "http://10.0.0.5:2379"])?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument), and nothing is changed, for an empty list, an
    /// endpoint that cannot be parsed, or one whose scheme is not that of the client;
    /// [`FailedPrecondition`](ErrorKind::FailedPrecondition) on a view that is aimed at one endpoint.
    pub fn set_endpoints(&self, endpoints: impl IntoEndpoints) -> Result<()> {
        let refused = |e: Error| e.operation(Operation::new("set endpoints"));
        self.refuse_if_aimed().map_err(refused)?;
        let texts = endpoints.into_endpoints();
        let parsed = parse_all(&texts, self.core.transport.is_secure()).map_err(refused)?;
        for endpoint in &parsed {
            self.core.transport.check(endpoint).map_err(refused)?;
        }
        self.core.transport.configure(parsed);
        Ok(())
    }

    pub(super) fn refuse_if_aimed(&self) -> Result<()> {
        if !self.core.aimed {
            return Ok(());
        }
        let reason = "this view of the client is aimed at one endpoint: use the client itself";
        Err(Error::new(ErrorKind::FailedPrecondition, reason))
    }
}

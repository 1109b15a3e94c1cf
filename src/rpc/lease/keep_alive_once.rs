//! Renewing a lease once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::renewal::Renewal;
use super::renewal_schedule::NO_SUCH_LEASE;
use super::ttl_seconds::ttl_from_seconds;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::LeaseKeepAliveRequest;
use crate::grpc::{Call, ConnectionRole, Transport};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::runtime::clock;
use crate::types::LeaseId;

/// Renews a lease once, over a stream of its own. To keep a lease alive, use
/// [`Client::keep_alive`](crate::Client::keep_alive): it costs less, and renews until it is dropped.
///
/// The call fails with [`LeaseNotFound`](crate::ErrorKind::LeaseNotFound) when the lease does not
/// exist.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::lease::KeepAliveOnce;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let lease = client.grant(Duration::from_secs(10))?;
/// let renewal = client.call(KeepAliveOnce::new(lease.id()))?;
/// println!("valid for {:?}", renewal.ttl());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct KeepAliveOnce {
    id: LeaseId,
}

impl KeepAliveOnce {
    /// Renews the lease with this id.
    pub fn new(id: LeaseId) -> Self {
        KeepAliveOnce { id }
    }

    fn message(&self) -> LeaseKeepAliveRequest {
        LeaseKeepAliveRequest { id: self.id.get() }
    }
}

impl Rpc for KeepAliveOnce {
    type Response = Renewal;

    fn operation(&self) -> Operation {
        Operation::about("keep alive once", format_args!("lease {}", self.id))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.message().encoded_len()
    }

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn execute(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Renewal>> + Send + 'static {
        let (message, id) = (self.message(), self.id);
        let for_streams = Arc::clone(&transport);
        let renewing = transport.repeat(
            Call::read(timeout),
            move || self.operation(),
            move |connection| {
                let mut stream = for_streams.duplex(ConnectionRole::Calls);
                async move {
                    let sent = clock::now();
                    let answer = stream.first(connection, Some(message)).await?;
                    Ok((sent, answer))
                }
            },
        );
        async move {
            let (sent, answer) = renewing.await?;
            // etcd answers a TTL of 0 for a lease that does not exist.
            match ttl_from_seconds(answer.ttl).filter(|ttl| !ttl.is_zero()) {
                Some(ttl) => Ok(Renewal::new(id, ttl, sent + ttl)),
                None => Err(Error::new(ErrorKind::LeaseNotFound, NO_SUCH_LEASE)
                    .operation(KeepAliveOnce::new(id).operation())),
            }
        }
    }
}

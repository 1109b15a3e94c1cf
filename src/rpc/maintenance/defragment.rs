//! Defragmenting the database of a member.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{DefragmentRequest, DefragmentResponse};
use crate::grpc::{Call, Framed, Transport};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;

/// How long it may take unless told otherwise. A dead member is noticed much sooner, by its silence.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Gives the free space in a member's database file back to the file system.
///
/// **The member serves nothing meanwhile**, neither reads nor writes: about a second for each 100 MB
/// on a fast disk. So it is only ever asked of one member: a client with several endpoints refuses,
/// [`Client::at`](crate::Client::at) aims. Do one member after the other, the leader last, after
/// having moved it.
///
/// It has a deadline of its own, ten minutes unless set or the client's timeout is longer. A member
/// goes on defragmenting when nobody waits any more. It is not repeated when its answer is lost.
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect(["http://127.0.0.1:2379"])?;
/// for endpoint in client.endpoints() {
///     client.at(endpoint)?.maintenance().defragment()?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct Defragment {
    timeout: Option<Duration>,
}

impl Defragment {
    /// Defragments the member at the only endpoint of the client.
    pub fn new() -> Self {
        Defragment { timeout: None }
    }

    /// How long to wait for the end.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Rpc for Defragment {
    type Response = ();

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::new("defragment")
    }

    fn check(&self) -> Result<()> {
        match self.timeout {
            Some(Duration::ZERO) => Err(Error::invalid("the timeout must not be zero")),
            _ => Ok(()),
        }
    }

    fn writes(&self) -> bool {
        true
    }

    fn encoded_len(&self) -> usize {
        0
    }

    async fn exchange(self, transport: Arc<Transport>, timeout: Duration) -> Result<()> {
        if transport.endpoints().len() > 1 {
            let reason = "the member that is to be blocked by it must be chosen: \
                          client.at(endpoint) has one endpoint, this client has several";
            return Err(Error::invalid(reason).operation(self.operation()));
        }
        let call = Call::write(self.timeout.unwrap_or(timeout.max(PATIENCE)));
        let request = Framed::new(&DefragmentRequest {}).needs_leader(false);
        let defragmenting = transport.unary(call, || self.operation(), request);
        defragmenting.await
    }
}

impl From<DefragmentResponse> for () {
    fn from(_: DefragmentResponse) {}
}

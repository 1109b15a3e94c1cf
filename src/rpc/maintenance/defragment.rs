//! Defragmenting the database of a member.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{DefragmentRequest, DefragmentResponse};
use crate::grpc::{Call, Framed, Transport};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;

/// The default time limit. Pings detect a dead member much sooner.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Defragments the database of one member: returns its free space to the file system.
///
/// **The member serves no reads and no writes meanwhile**: about a second for each 100 MB on a fast
/// disk. So the request needs a client with one endpoint, such as that of
/// [`Client::at`](crate::Client::at). Defragment one member after the other; move the leadership away
/// from the leader, and defragment it last.
///
/// The time limit is ten minutes, unless [`timeout`](Defragment::timeout) is set or the client's timeout
/// is longer. After the time limit the member continues to defragment. The request is not repeated when
/// its answer is lost.
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

    /// Sets the time limit.
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
            Some(Duration::ZERO) => Err(Error::invalid(
                "the timeout of the defragmentation is zero: set a longer one",
            )),
            _ => Ok(()),
        }
    }

    fn writes(&self) -> bool {
        true
    }

    fn encoded_len(&self) -> usize {
        0
    }

    async fn execute(self, transport: Arc<Transport>, timeout: Duration) -> Result<()> {
        if transport.endpoints().len() > 1 {
            let reason = "a defragmentation blocks its member, and this client has several endpoints: \
                          select one with client.at(endpoint)";
            return Err(Error::invalid(reason).operation(self.operation()));
        }
        let call = Call::write(self.timeout.unwrap_or(timeout.max(DEFAULT_TIMEOUT)));
        let request = Framed::new(&DefragmentRequest {}).needs_leader(false);
        let defragmenting = transport.unary(call, || self.operation(), request);
        defragmenting.await
    }
}

impl From<DefragmentResponse> for () {
    fn from(_: DefragmentResponse) {}
}

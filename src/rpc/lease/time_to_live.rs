//! Asking how long a lease will live.

use std::time::Duration;

use bytes::Bytes;

use super::living;
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{LeaseId, ResponseHeader};

/// Asks how long a lease will live if nobody renews it, and which keys hang on it.
///
/// ```no_run
/// use etcd_blocking::{Client, LeaseId, TimeToLive};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let id = LeaseId::new(0x694d7a3c5f1b0a02).expect("not zero");
/// let lease = client.call(TimeToLive::new(id).keys())?;
/// match lease.remaining() {
///     Some(left) => println!("{left:?} left, {} keys", lease.keys().len()),
///     None => println!("gone"),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct TimeToLive {
    id: LeaseId,
    keys: bool,
}

impl TimeToLive {
    /// Asks about the lease with this id.
    pub fn new(id: LeaseId) -> Self {
        TimeToLive { id, keys: false }
    }

    /// Asks for the keys that hang on it, too.
    pub fn keys(mut self) -> Self {
        self.keys = true;
        self
    }

    fn message(&self) -> LeaseTimeToLiveRequest {
        LeaseTimeToLiveRequest {
            id: self.id.get(),
            keys: self.keys,
        }
    }
}

impl Rpc for TimeToLive {
    type Response = TimeToLiveResponse;

    fn operation(&self) -> Operation {
        Operation::about("time to live", format_args!("of lease {}", self.id))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced {
            request: self,
            // A lease may hold keys of others.
            strip: |response, namespace| response.keys.retain_mut(|key| namespace.leave(key)),
        })
    }

    unary_rpc!(read LeaseTimeToLiveRequest);
}

/// The answer to a [`TimeToLive`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TimeToLiveResponse {
    header: ResponseHeader,
    granted: Duration,
    remaining: Option<Duration>,
    keys: Vec<Bytes>,
}

impl TimeToLiveResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// How long the lease lives without a renewal; zero when it is gone.
    pub fn granted(&self) -> Duration {
        self.granted
    }

    /// How long it will still live, in whole seconds (rounded down); `None` when it is gone.
    pub fn remaining(&self) -> Option<Duration> {
        self.remaining
    }

    /// The keys that hang on it, in no order, if [`TimeToLive::keys`] asked for them; in a
    /// [namespace](crate::Client::namespace) those of its keys.
    pub fn keys(&self) -> &[Bytes] {
        &self.keys
    }
}

impl From<LeaseTimeToLiveResponse> for TimeToLiveResponse {
    fn from(pb: LeaseTimeToLiveResponse) -> Self {
        TimeToLiveResponse {
            header: header(pb.header),
            granted: living(pb.granted_ttl).unwrap_or_default(),
            remaining: living(pb.ttl),
            keys: pb.keys,
        }
    }
}

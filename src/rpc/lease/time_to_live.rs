//! Reading the remaining time to live of a lease.

use std::time::Duration;

use bytes::Bytes;

use super::ttl_seconds::ttl_from_seconds;
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::{LeaseId, ResponseHeader};

/// Reads how long a lease lives without a renewal, and which keys are attached to it.
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
///     None => println!("the lease has ended"),
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
    /// Reads the lease with this id.
    pub fn new(id: LeaseId) -> Self {
        TimeToLive { id, keys: false }
    }

    /// Also returns the keys that are attached to the lease.
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
            // Keys outside the namespace may be attached to the lease.
            strip: |response, namespace| response.keys.retain_mut(|key| namespace.leave(key)),
        })
    }

    unary_rpc!(read LeaseTimeToLiveRequest);
}

/// The response to a [`TimeToLive`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TimeToLiveResponse {
    header: ResponseHeader,
    granted: Duration,
    remaining: Option<Duration>,
    keys: Vec<Bytes>,
}

impl TimeToLiveResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The granted time to live. Zero when the lease has ended.
    pub fn granted(&self) -> Duration {
        self.granted
    }

    /// The remaining time to live, in whole seconds (rounded down). `None` when the lease has ended.
    pub fn remaining(&self) -> Option<Duration> {
        self.remaining
    }

    /// The keys that are attached to the lease, unordered, if [`TimeToLive::keys`] requested them. In a
    /// [namespace](crate::Client::namespace), only the keys of the namespace.
    pub fn keys(&self) -> &[Bytes] {
        &self.keys
    }
}

impl From<LeaseTimeToLiveResponse> for TimeToLiveResponse {
    fn from(pb: LeaseTimeToLiveResponse) -> Self {
        TimeToLiveResponse {
            header: header(pb.header),
            granted: ttl_from_seconds(pb.granted_ttl).unwrap_or_default(),
            remaining: ttl_from_seconds(pb.ttl),
            keys: pb.keys,
        }
    }
}

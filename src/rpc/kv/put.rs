//! Putting one key.

use std::fmt;

use bytes::Bytes;

use super::convert::{header, range};
use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{PutRequest, PutResponse as PbPutResponse};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::Printed;
use crate::types::{KeyValue, LeaseId, ResponseHeader, Revision};

/// Stores a value under a key.
///
/// A put without [`lease`](Put::lease) detaches the key from its lease.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_blocking::{Client, Put};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let lease = client.grant(Duration::from_secs(10))?;
/// let put = client.call(Put::new("svc/a", "10.0.0.1:80").lease(lease.id()).prev_kv())?;
/// println!("replaced {:?} at revision {}", put.prev_kv(), put.revision());
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Put {
    pub(super) pb: PutRequest,
}

impl Put {
    /// Stores `value` under `key`.
    pub fn new(key: impl IntoBytes, value: impl IntoBytes) -> Self {
        Put {
            pb: PutRequest {
                key: key.into_bytes(),
                value: value.into_bytes(),
                ..PutRequest::default()
            },
        }
    }

    /// Puts the key again with its present value, to change its lease or to create an event.
    ///
    /// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the key does not exist.
    pub fn keep_value(key: impl IntoBytes) -> Self {
        Put {
            pb: PutRequest {
                key: key.into_bytes(),
                ignore_value: true,
                ..PutRequest::default()
            },
        }
    }

    /// Attaches the key to a lease. It is deleted when the lease ends.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.pb.lease = lease.get();
        self
    }

    /// Leaves the key attached to its present lease.
    ///
    /// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the key does not exist.
    pub fn keep_lease(mut self) -> Self {
        self.pb.ignore_lease = true;
        self
    }

    /// Returns the key and value before the put, in [`PutResponse::prev_kv`].
    pub fn prev_kv(mut self) -> Self {
        self.pb.prev_kv = true;
        self
    }

    fn message(&self) -> &PutRequest {
        &self.pb
    }
}

/// Prints the key and the size of the value, never the value.
impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("key", &Printed(&self.pb.key))
            .field("value_len", &self.pb.value.len())
            .field("lease", &LeaseId::new(self.pb.lease))
            .field("prev_kv", &self.pb.prev_kv)
            .field("keep_value", &self.pb.ignore_value)
            .field("keep_lease", &self.pb.ignore_lease)
            .finish()
    }
}

/// The name of the operation in errors and metrics.
const VERB: &str = "put";

impl Rpc for Put {
    type Response = PutResponse;

    fn operation(&self) -> Operation {
        Operation::on(VERB, range(&self.pb.key, &Bytes::new()))
    }

    fn verb(&self) -> &'static str {
        VERB
    }

    fn check(&self) -> Result<()> {
        if self.pb.key.is_empty() {
            return Err(Error::invalid("the key is empty; etcd has no empty key"));
        }
        // The server refuses it too; here the message names the two methods.
        if self.pb.ignore_lease && self.pb.lease != 0 {
            return Err(Error::invalid(
                "a put cannot both keep the key's lease and set one: use lease or keep_lease",
            ));
        }
        Ok(())
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        namespace.enter(&mut self.pb.key, &mut Bytes::new());
        Ok(Namespaced {
            request: self,
            strip: PutResponse::strip,
        })
    }

    fn shown(response: &PutResponse) -> Revision {
        response.header.revision
    }

    unary_rpc!(write PutRequest, applied);
}

/// The response to a [`Put`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PutResponse {
    header: ResponseHeader,
    prev_kv: Option<KeyValue>,
}

impl PutResponse {
    pub(super) fn strip(&mut self, namespace: &Namespace) {
        // A key outside of the namespace cannot be in the answer of a correct server; it is not
        // shown.
        self.prev_kv.take_if(|kv| !namespace.leave(&mut kv.key));
    }

    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The revision of the put. All writes of a transaction have the same one.
    pub fn revision(&self) -> Revision {
        self.header.revision
    }

    /// The key and value before the put, if the key existed and [`Put::prev_kv`] requested them.
    pub fn prev_kv(&self) -> Option<&KeyValue> {
        self.prev_kv.as_ref()
    }
}

impl From<PbPutResponse> for PutResponse {
    fn from(pb: PbPutResponse) -> Self {
        PutResponse {
            header: header(pb.header),
            prev_kv: pb.prev_kv.map(KeyValue::from),
        }
    }
}

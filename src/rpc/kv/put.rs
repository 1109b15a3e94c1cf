//! Writing one key.

use std::fmt;

use bytes::Bytes;

use super::{header, range};
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
/// A put without [`lease`](Put::lease) takes the key off the lease it hung on.
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

    /// Puts the key again with the value it has: to change its lease, or to make an event.
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when the key does not exist.
    pub fn keep_value(key: impl IntoBytes) -> Self {
        Put {
            pb: PutRequest {
                key: key.into_bytes(),
                ignore_value: true,
                ..PutRequest::default()
            },
        }
    }

    /// Hangs the key on a lease: it is deleted when the lease ends.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.pb.lease = lease.get();
        self
    }

    /// Leaves the key on the lease it hangs on.
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when the key does not exist.
    pub fn keep_lease(mut self) -> Self {
        self.pb.ignore_lease = true;
        self
    }

    /// Returns what the key was before.
    pub fn prev_kv(mut self) -> Self {
        self.pb.prev_kv = true;
        self
    }

    fn message(&self) -> &PutRequest {
        &self.pb
    }
}

/// Shows the key and the size of the value.
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

/// Its name in errors and metrics.
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
        if self.pb.ignore_lease && self.pb.lease != 0 {
            return Err(Error::invalid(
                "a put cannot keep the key's lease and set another",
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

/// The answer to a [`Put`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PutResponse {
    header: ResponseHeader,
    prev_kv: Option<KeyValue>,
}

impl PutResponse {
    pub(super) fn strip(&mut self, namespace: &Namespace) {
        self.prev_kv.take_if(|kv| !namespace.leave(&mut kv.key));
    }

    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The revision that the put made. Inside a transaction all writes share one.
    pub fn revision(&self) -> Revision {
        self.header.revision
    }

    /// What the key was before, if it was and [`Put::prev_kv`] asked for it.
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

//! Deleting keys.

use super::convert::{header, key_values, range, strip};
use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::rpc::request::{Namespaced, unary_rpc};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, ResponseHeader, Revision};

/// Deletes one key or a range of keys. Deleting a key that does not exist is not an error.
///
/// ```no_run
/// use etcd_blocking::{Client, Delete};
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let deleted = client.call(Delete::prefix("cache/").prev_kv())?;
/// println!("{} keys deleted", deleted.deleted());
/// # Ok(()) }
/// ```
///
/// A deletion has no options of a read:
///
/// ```compile_fail
/// let _ = etcd_blocking::Delete::prefix("cache/").limit(10);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Delete {
    pub(super) pb: DeleteRangeRequest,
}

impl Delete {
    /// Deletes exactly this key.
    pub fn key(key: impl IntoBytes) -> Self {
        Delete::range(KeyRange::key(key))
    }

    /// Deletes every key with this prefix. An empty prefix is refused: pass [`KeyRange::all`] to
    /// [`range`](Delete::range) to delete all keys.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        let prefix = prefix.into_bytes();
        if prefix.is_empty() {
            Delete::key(prefix)
        } else {
            Delete::range(KeyRange::prefix(prefix))
        }
    }

    /// Deletes a range of keys.
    pub fn range(range: impl Into<KeyRange>) -> Self {
        let range = range.into();
        let pb = DeleteRangeRequest {
            key: range.start().clone(),
            range_end: range.range_end().clone(),
            prev_kv: false,
        };
        Delete { pb }
    }

    /// Returns the deleted keys and values, in [`DeleteResponse::prev_kvs`].
    pub fn prev_kv(mut self) -> Self {
        self.pb.prev_kv = true;
        self
    }

    /// The keys it deletes.
    pub fn keys(&self) -> KeyRange {
        range(&self.pb.key, &self.pb.range_end)
    }

    fn message(&self) -> &DeleteRangeRequest {
        &self.pb
    }
}

/// The name of the operation in errors and metrics.
const VERB: &str = "delete";

impl Rpc for Delete {
    type Response = DeleteResponse;

    fn operation(&self) -> Operation {
        Operation::on(VERB, self.keys())
    }

    fn verb(&self) -> &'static str {
        VERB
    }

    fn check(&self) -> Result<()> {
        match self.keys().problem() {
            Some(problem) => Err(Error::invalid(problem)),
            None => Ok(()),
        }
    }

    fn within(mut self, namespace: &Namespace) -> Result<Namespaced<Self>> {
        namespace.enter(&mut self.pb.key, &mut self.pb.range_end);
        Ok(Namespaced {
            request: self,
            strip: DeleteResponse::strip,
        })
    }

    fn shown(response: &DeleteResponse) -> Revision {
        response.header.revision
    }

    unary_rpc!(write DeleteRangeRequest, applied);
}

/// The response to a [`Delete`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct DeleteResponse {
    header: ResponseHeader,
    deleted: u64,
    prev_kvs: Vec<KeyValue>,
}

impl DeleteResponse {
    pub(super) fn strip(&mut self, namespace: &Namespace) {
        strip(&mut self.prev_kvs, namespace);
    }

    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The revision of the store after the deletion.
    pub fn revision(&self) -> Revision {
        self.header.revision
    }

    /// The number of deleted keys.
    pub fn deleted(&self) -> u64 {
        self.deleted
    }

    /// The deleted keys and values, if [`Delete::prev_kv`] requested them.
    pub fn prev_kvs(&self) -> &[KeyValue] {
        &self.prev_kvs
    }
}

impl From<DeleteRangeResponse> for DeleteResponse {
    fn from(pb: DeleteRangeResponse) -> Self {
        DeleteResponse {
            header: header(pb.header),
            deleted: u64::try_from(pb.deleted).unwrap_or(0),
            prev_kvs: key_values(pb.prev_kvs),
        }
    }
}

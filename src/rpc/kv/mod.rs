//! Keys and values: the requests, their responses, and how they travel.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod compact;
mod compare;
mod delete;
mod get;
mod paging;
mod put;
mod streaming;
mod txn;

pub use compact::{Compact, CompactResponse};
pub use compare::{Compare, Target, Value};
pub use delete::{Delete, DeleteResponse};
pub use get::{Get, GetResponse, SortOrder, SortTarget};
pub(crate) use paging::{Paging, key_too_large};
pub use put::{Put, PutResponse};
pub(crate) use streaming::{Chunks, Ended, Trust};
pub use txn::{Op, OpResponse, Txn, TxnResponse};

use crate::grpc::etcd_rs_proto::{etcdserverpb, mvccpb};
use crate::rpc::namespace::Namespace;
use crate::types::key_range::KeyRange;
use crate::types::{KeyValue, ResponseHeader};

impl From<mvccpb::KeyValue> for KeyValue {
    fn from(pb: mvccpb::KeyValue) -> Self {
        KeyValue {
            key: pb.key,
            value: pb.value,
            create_revision: pb.create_revision,
            mod_revision: pb.mod_revision,
            version: pb.version,
            lease: pb.lease,
        }
    }
}

/// A header that is missing reads as all zeroes, like every missing part of a protobuf message.
pub(crate) fn header(pb: Option<etcdserverpb::ResponseHeader>) -> ResponseHeader {
    pb.map_or_else(ResponseHeader::default, |pb| {
        ResponseHeader::new(pb.cluster_id, pb.member_id, pb.revision, pb.raft_term)
    })
}

fn key_values(pb: Vec<mvccpb::KeyValue>) -> Vec<KeyValue> {
    pb.into_iter().map(KeyValue::from).collect()
}

/// The range that a message with `key` and `range_end` means.
fn range(key: &bytes::Bytes, range_end: &bytes::Bytes) -> KeyRange {
    if range_end.is_empty() {
        KeyRange::key(key.clone())
    } else {
        KeyRange::range(key.clone(), range_end.clone())
    }
}

/// Takes a namespace off keys; one that is outside is not shown.
fn strip(kvs: &mut Vec<KeyValue>, namespace: &Namespace) {
    kvs.retain_mut(|kv| namespace.leave(&mut kv.key));
}

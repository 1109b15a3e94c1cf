//! Conversions between messages and public types.

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

/// Converts a header. A missing one is all zero, like every missing part of a protobuf message.
pub(crate) fn header(pb: Option<etcdserverpb::ResponseHeader>) -> ResponseHeader {
    pb.map_or_else(ResponseHeader::default, |pb| {
        ResponseHeader::new(pb.cluster_id, pb.member_id, pb.revision, pb.raft_term)
    })
}

pub(super) fn key_values(pb: Vec<mvccpb::KeyValue>) -> Vec<KeyValue> {
    pb.into_iter().map(KeyValue::from).collect()
}

/// The range of a message with this `key` and `range_end`.
pub(super) fn range(key: &bytes::Bytes, range_end: &bytes::Bytes) -> KeyRange {
    // On the wire, a single key has an empty end.
    if range_end.is_empty() {
        KeyRange::key(key.clone())
    } else {
        KeyRange::range(key.clone(), range_end.clone())
    }
}

/// Strips a namespace from keys, and removes the keys that are outside of it.
pub(super) fn strip(kvs: &mut Vec<KeyValue>, namespace: &Namespace) {
    kvs.retain_mut(|kv| namespace.leave(&mut kv.key));
}

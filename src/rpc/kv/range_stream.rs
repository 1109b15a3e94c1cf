//! Reads the rest of a range over one stream: the RangeStream of etcd 3.7.
//!
//! It is an optimisation of paged reads. The reader keeps a [`Paging`](super::paging::Paging) cursor, and
//! requests the next page when a stream fails. That request reports the error, or is retried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::convert::strip;
use super::get::Get;
use crate::error::ErrorKind;
use crate::grpc::etcd_rs_proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::grpc::{
    AttemptFailure, ConnectionRole, GrpcStream, StreamClosed, StreamEvent, Transport, Urgency,
};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::types::KeyValue;
use crate::types::key_range::KeyRange;

/// The reason why a range stream ended before the end of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeStreamEnd {
    /// The server does not support range streams.
    Unsupported,
    /// Any other failure. The request for the next page reports it.
    Failed,
}

/// A range stream: keys in chunks whose size the server chooses.
pub(crate) struct RangeStream {
    stream: GrpcStream<RangeRequest>,
    transport: Arc<Transport>,
    step_timeout: Duration,
    namespace: Option<Namespace>,
    order: KeyOrderCheck,
    /// The last chunk had a header, which only the final chunk has.
    complete: bool,
}

impl RangeStream {
    /// Opens a stream of all keys of `get`, at its revision. `step_timeout` is the time limit of
    /// connecting, and of each chunk.
    pub(crate) async fn open(
        transport: Arc<Transport>,
        get: Get,
        namespace: Option<Namespace>,
        step_timeout: Duration,
    ) -> Result<Self, RangeStreamEnd> {
        let get = match &namespace {
            None => get,
            Some(inside) => match get.within(inside) {
                Ok(namespaced) => namespaced.request,
                // The pages are then requests, whose error has the reason.
                Err(_) => return Err(RangeStreamEnd::Unsupported),
            },
        };
        let order = KeyOrderCheck::new(get.keys());
        let needs_leader = !get.pb.serializable;
        let stream = transport.server_stream(ConnectionRole::Bulk, get.pb);
        let mut stream = stream.needs_leader(needs_leader);
        stream.open(Urgency::Call);
        let StreamEvent::Opened = stream.next_within(step_timeout).await else {
            return Err(RangeStreamEnd::Failed);
        };
        if stream.connection().is_some_and(|c| c.lacks_range_stream()) {
            return Err(RangeStreamEnd::Unsupported);
        }
        Ok(RangeStream {
            stream,
            transport,
            step_timeout,
            namespace,
            order,
            complete: false,
        })
    }

    /// The next chunk, in the order of keys; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, RangeStreamEnd> {
        let begun = Instant::now();
        let connection = self.stream.connection().cloned();
        let message = match self.stream.next_within(self.step_timeout).await {
            StreamEvent::Message(message) => message,
            StreamEvent::Closed(StreamClosed { failure: None, .. }) if self.complete => {
                return Ok(None);
            }
            StreamEvent::Closed(StreamClosed {
                failure: Some(AttemptFailure::Status(answer)),
                ..
            }) if answer.kind == ErrorKind::Unimplemented => {
                if let Some(connection) = connection {
                    connection.note_no_range_stream();
                }
                return Err(RangeStreamEnd::Unsupported);
            }
            StreamEvent::Opened | StreamEvent::Closed(_) => return Err(RangeStreamEnd::Failed),
        };
        let RangeResponse { header, kvs, .. } = message.range_response.unwrap_or_default();
        // etcd sends the header with the last message only.
        self.complete = header.is_some();
        let mut kvs: Vec<KeyValue> = kvs.into_iter().map(KeyValue::from).collect();
        // Keys in another order could be missing: requests read the rest.
        if !self.order.accept(&kvs) {
            return Err(RangeStreamEnd::Failed);
        }
        let telemetry = self.transport.telemetry();
        telemetry.piece("range stream", begun.elapsed());
        if let Some(namespace) = &self.namespace {
            strip(&mut kvs, namespace);
        }
        Ok(Some(kvs))
    }
}

/// Checks that keys arrive in order, once each, and inside the range.
#[derive(Debug)]
pub(super) struct KeyOrderCheck {
    range: KeyRange,
    last: Option<Bytes>,
}

impl KeyOrderCheck {
    pub(super) fn new(range: KeyRange) -> Self {
        KeyOrderCheck { range, last: None }
    }

    pub(super) fn accept(&mut self, kvs: &[KeyValue]) -> bool {
        let ordered = kvs.is_sorted_by(|a, b| a.key() < b.key());
        let (Some(first), Some(last)) = (kvs.first(), kvs.last()) else {
            return true;
        };
        let follows = self.last.as_ref().is_none_or(|last| last < first.key());
        let inside = self.range.contains(first.key()) && self.range.contains(last.key());
        // Copied, because the key is a slice of the whole chunk and would keep it in memory.
        self.last = Some(Bytes::copy_from_slice(last.key()));
        ordered && follows && inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_repeated_unordered_or_outside_the_range_are_detected() {
        let order = || KeyOrderCheck::new(KeyRange::prefix("a"));
        let kv = |key: &'static str| KeyValue {
            key: key.into(),
            ..KeyValue::default()
        };
        let mut good = order();
        assert!(good.accept(&[kv("a"), kv("a1")]) && good.accept(&[]) && good.accept(&[kv("a2")]));
        assert!(!good.accept(&[kv("a2")]), "twice");
        assert!(!order().accept(&[kv("a2"), kv("a1")]));
        assert!(!order().accept(&[kv("a2"), kv("b")]));
    }
}

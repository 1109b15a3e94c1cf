//! Reads the rest of a range over one stream: the RangeStream of etcd 3.7.
//!
//! It is an optimisation of paged reads. The reader keeps a [`Paging`](super::paging::Paging) cursor, and
//! requests the next page when a stream fails. That request reports the error, or is retried.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::convert::strip;
use super::get::Get;
use crate::error::{ErrorKind, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use crate::grpc::{
    ConnectError, Connection, ConnectionRole, MemberCondition, RpcError, Transport, Urgency,
    classify, member_condition, outgoing,
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
#[derive(Debug)]
pub(crate) struct RangeStream {
    streaming: Streaming<RangeStreamResponse>,
    transport: Arc<Transport>,
    connection: Connection,
    step_timeout: Duration,
    namespace: Option<Namespace>,
    order: KeyOrderCheck,
    /// The last chunk had a header, which only the final chunk has.
    complete: bool,
}

impl RangeStream {
    /// Opens a stream of all keys of `get`, at its revision. `step_timeout` is the time limit of opening
    /// it, and of each chunk.
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
                Err(_) => return Err(RangeStreamEnd::Unsupported),
            },
        };
        let connecting = transport.connection(ConnectionRole::Bulk, Urgency::Call);
        let Ok(Ok(connection)) = timeout(step_timeout, connecting).await else {
            return Err(RangeStreamEnd::Failed);
        };
        if connection.lacks_range_stream() {
            return Err(RangeStreamEnd::Unsupported);
        }
        let order = KeyOrderCheck {
            range: get.keys(),
            last: None,
        };
        let opening = ask(connection.clone(), get.pb);
        match timeout(step_timeout, opening).await {
            Ok(Ok(streaming)) => Ok(RangeStream {
                streaming,
                transport,
                connection,
                step_timeout,
                namespace,
                order,
                complete: false,
            }),
            Ok(Err(status)) => Err(failed(&transport, &connection, Some(&status))),
            Err(_) => Err(failed(&transport, &connection, None)),
        }
    }

    /// The next chunk, in the order of keys; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, RangeStreamEnd> {
        let begun = Instant::now();
        let message = match timeout(self.step_timeout, self.streaming.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) if self.complete => return Ok(None),
            Ok(Ok(None)) => return Err(RangeStreamEnd::Failed),
            Ok(Err(status)) => {
                return Err(failed(&self.transport, &self.connection, Some(&status)));
            }
            Err(_) => return Err(failed(&self.transport, &self.connection, None)),
        };
        let RangeResponse { header, kvs, .. } = message.range_response.unwrap_or_default();
        self.complete = header.is_some();
        let mut kvs: Vec<KeyValue> = kvs.into_iter().map(KeyValue::from).collect();
        if !self.order.accept(&kvs) {
            return Err(RangeStreamEnd::Failed);
        }
        let observer = self.transport.observer();
        observer.piece("range stream", begun.elapsed());
        if let Some(namespace) = &self.namespace {
            strip(&mut kvs, namespace);
        }
        Ok(Some(kvs))
    }
}

/// Opens the stream. Boxed, because the futures of the stubs are large.
fn ask(
    connection: Connection,
    pb: RangeRequest,
) -> std::pin::Pin<Box<dyn Future<Output = Result<Streaming<RangeStreamResponse>, Status>> + Send>>
{
    Box::pin(async move {
        let request = outgoing(pb.clone(), !pb.serializable);
        let response = connection.kv().range_stream(request).await?;
        Ok(response.into_inner())
    })
}

/// Reports the failure of a stream like that of a call. No status stands for no answer.
fn failed(
    transport: &Transport,
    connection: &Connection,
    status: Option<&Status>,
) -> RangeStreamEnd {
    let member_condition = match status.map(classify) {
        None => MemberCondition::Silent,
        Some(RpcError::ConnectError(ConnectError { .. })) => MemberCondition::Healthy,
        Some(RpcError::Answer(answer)) if answer.kind == ErrorKind::Unimplemented => {
            connection.note_no_range_stream();
            return RangeStreamEnd::Unsupported;
        }
        Some(RpcError::Answer(answer)) => member_condition(&answer),
    };
    transport.report(ConnectionRole::Bulk, connection, member_condition);
    RangeStreamEnd::Failed
}

/// Checks that keys arrive in order, once each, and inside the range.
#[derive(Debug)]
struct KeyOrderCheck {
    range: KeyRange,
    last: Option<Bytes>,
}

impl KeyOrderCheck {
    fn accept(&mut self, kvs: &[KeyValue]) -> bool {
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
        let order = || KeyOrderCheck {
            range: KeyRange::prefix("a"),
            last: None,
        };
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

//! The rest of a range by one stream: etcd 3.7's RangeStream.
//!
//! It is a faster way to read what pages read, and nothing depends on it: whoever reads keeps a
//! [`Paging`](super::Paging) cursor, and asks for the next page when a stream does not go on. That
//! request then says what is wrong, and repeats what can be repeated.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{Get, strip};
use crate::error::{ErrorKind, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use crate::grpc::{
    ConnectError, Connection, ConnectionRole, Demand, RpcError, Suspicion, Transport, classify,
    outgoing, suspicion,
};
use crate::rpc::namespace::Namespace;
use crate::rpc::request::sealed::Rpc;
use crate::types::KeyValue;
use crate::types::key_range::KeyRange;

/// Why a stream ended before its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The server has no such stream.
    Unsupported,
    /// Anything else: the next request will tell.
    Failed,
}

/// Whether to try a stream for what is left of a range.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trust {
    misses: u32,
}

impl Trust {
    /// So many streams in a row may fail to bring anything.
    const MOST: u32 = 3;

    pub(crate) fn holds(self) -> bool {
        self.misses < Trust::MOST
    }

    pub(crate) fn worked(&mut self) {
        self.misses = 0;
    }

    pub(crate) fn ended(&mut self, ended: Ended) {
        self.misses = match ended {
            Ended::Unsupported => Trust::MOST,
            Ended::Failed => self.misses.saturating_add(1),
        };
    }
}

/// A range on its way, in pieces of the server's choice.
#[derive(Debug)]
pub(crate) struct Chunks {
    streaming: Streaming<RangeStreamResponse>,
    transport: Arc<Transport>,
    connection: Connection,
    patience: Duration,
    namespace: Option<Namespace>,
    order: Ascending,
    /// The last chunk had the header that only the last of all has.
    complete: bool,
}

impl Chunks {
    /// Asks for everything that `get` reads, at the revision it names. `patience` is how long each
    /// step may take.
    pub(crate) async fn open(
        transport: Arc<Transport>,
        get: Get,
        namespace: Option<Namespace>,
        patience: Duration,
    ) -> Result<Self, Ended> {
        let get = match &namespace {
            None => get,
            Some(inside) => match get.within(inside) {
                Ok(confined) => confined.request,
                Err(_) => return Err(Ended::Unsupported),
            },
        };
        let connecting = transport.connection(ConnectionRole::Bulk, Demand::Call);
        let Ok(Ok(connection)) = timeout(patience, connecting).await else {
            return Err(Ended::Failed);
        };
        if connection.lacks_range_stream() {
            return Err(Ended::Unsupported);
        }
        let order = Ascending {
            range: get.keys(),
            last: None,
        };
        let asked = ask(connection.clone(), get.pb);
        match timeout(patience, asked).await {
            Ok(Ok(streaming)) => Ok(Chunks {
                streaming,
                transport,
                connection,
                patience,
                namespace,
                order,
                complete: false,
            }),
            Ok(Err(status)) => Err(ended(&transport, &connection, Some(&status))),
            Err(_) => Err(ended(&transport, &connection, None)),
        }
    }

    /// The next keys, in the order of keys; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, Ended> {
        let begun = Instant::now();
        let message = match timeout(self.patience, self.streaming.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) if self.complete => return Ok(None),
            Ok(Ok(None)) => return Err(Ended::Failed),
            Ok(Err(status)) => {
                return Err(ended(&self.transport, &self.connection, Some(&status)));
            }
            Err(_) => return Err(ended(&self.transport, &self.connection, None)),
        };
        let RangeResponse { header, kvs, .. } = message.range_response.unwrap_or_default();
        self.complete = header.is_some();
        let mut kvs: Vec<KeyValue> = kvs.into_iter().map(KeyValue::from).collect();
        if !self.order.take(&kvs) {
            return Err(Ended::Failed);
        }
        let observer = self.transport.observer();
        observer.piece("range stream", begun.elapsed());
        if let Some(namespace) = &self.namespace {
            strip(&mut kvs, namespace);
        }
        Ok(Some(kvs))
    }
}

/// In a box of its own, as every use of a stub.
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

/// What the end of a stream means; no status is no answer. It is reported like that of a call.
fn ended(transport: &Transport, connection: &Connection, status: Option<&Status>) -> Ended {
    let suspicion = match status.map(classify) {
        None => Suspicion::Silent,
        Some(RpcError::ConnectError(ConnectError { .. })) => Suspicion::None,
        Some(RpcError::Answer(answer)) if answer.kind == ErrorKind::Unimplemented => {
            connection.note_no_range_stream();
            return Ended::Unsupported;
        }
        Some(RpcError::Answer(answer)) => suspicion(&answer),
    };
    transport.report(ConnectionRole::Bulk, connection, suspicion);
    Ended::Failed
}

/// Watches over what the server sends: each key once, in order, and of the range.
#[derive(Debug)]
struct Ascending {
    range: KeyRange,
    last: Option<Bytes>,
}

impl Ascending {
    fn take(&mut self, kvs: &[KeyValue]) -> bool {
        let ordered = kvs.is_sorted_by(|a, b| a.key() < b.key());
        let (Some(first), Some(last)) = (kvs.first(), kvs.last()) else {
            return true;
        };
        let follows = self.last.as_ref().is_none_or(|last| last < first.key());
        let inside = self.range.contains(first.key()) && self.range.contains(last.key());
        // A copy: the key is a view of the whole chunk, which would stay in memory with it.
        self.last = Some(Bytes::copy_from_slice(last.key()));
        ordered && follows && inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_has_no_streams_is_asked_once_and_one_that_fails_three_times() {
        let mut trust = Trust::default();
        for _ in 0..2 {
            trust.ended(Ended::Failed);
            assert!(trust.holds());
        }
        trust.worked();
        trust.ended(Ended::Failed);
        assert!(trust.holds(), "not in a row");
        trust.ended(Ended::Unsupported);
        trust.ended(Ended::Failed);
        assert!(!trust.holds());
    }

    #[test]
    fn keys_that_come_twice_or_out_of_order_or_from_elsewhere_are_noticed() {
        let order = || Ascending {
            range: KeyRange::prefix("a"),
            last: None,
        };
        let kv = |key: &'static str| KeyValue {
            key: key.into(),
            ..KeyValue::default()
        };
        let mut good = order();
        assert!(good.take(&[kv("a"), kv("a1")]) && good.take(&[]) && good.take(&[kv("a2")]));
        assert!(!good.take(&[kv("a2")]), "twice");
        assert!(!order().take(&[kv("a2"), kv("a1")]));
        assert!(!order().take(&[kv("a2"), kv("b")]));
    }
}

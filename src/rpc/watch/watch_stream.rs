//! The watch stream: its connection, the stream itself, and the reads over the same connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::state::{Input, StreamEnd};
use crate::error::{ErrorKind, ServerError};
use crate::grpc::etcd_rs_proto::Duplex as _;
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    RangeRequest, StatusRequest, WatchRequest, WatchResponse,
};
use crate::grpc::{
    Connection, ConnectionRole, Consistency, Framed, GrpcStream, KnownStore, MemberCondition,
    RpcError, StreamItem, Transport, Urgency,
};
use crate::util::atomic::AtomicU64;

/// The time limit of a read over the stream's connection. Bytes that arrive on the stream restart it,
/// because the answer to the read comes behind them on the same connection.
const READ_WITHIN: Duration = Duration::from_secs(5);

type Fut<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A watch stream, or the attempt to open one.
pub(super) struct WatchStream {
    transport: Arc<Transport>,
    connecting: Option<Fut<Result<Connection, StreamEnd>>>,
    /// The attempt has background priority, and does nothing but connect.
    background: bool,
    open: Option<Open>,
    /// The epoch of the store that was last reported to the watches.
    epoch: u64,
    /// A read from a store that replaced another one. It is reported after the replacement.
    postponed_read: Option<i64>,
    /// The token that the server refused on the last stream, by its generation, and the refusal.
    refused: Option<(u64, ServerError)>,
}

struct Open {
    connection: Connection,
    /// The state of the store that was known when the stream began.
    known_at_open: KnownStore,
    /// The generation of the token that the stream was opened with. The server checks no other token
    /// during the stream.
    generation: u64,
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: Responses,
    /// The number of bytes that arrived on the stream, and that number at the last check.
    arrived: Arc<AtomicU64>,
    arrived_before: u64,
    version: Option<Fut<bool>>,
    reading: Option<Fut<Result<i64, StreamEnd>>>,
}

/// The receiving half of a stream. The server sends its headers with the first response, so requests
/// are sent before the stream is established.
enum Responses {
    Opening(Fut<Result<GrpcStream<WatchResponse>, RpcError>>),
    Flowing(Box<GrpcStream<WatchResponse>>),
    Ended,
}

impl WatchStream {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        WatchStream {
            transport,
            connecting: None,
            background: false,
            open: None,
            epoch: 0,
            postponed_read: None,
            refused: None,
        }
    }

    /// Starts to connect, with another token if the last one was refused.
    pub(super) fn connect(&mut self, demand: Urgency) {
        let transport = Arc::clone(&self.transport);
        let refused = self.refused.take();
        self.background = demand == Urgency::Background && refused.is_none();
        self.connecting = Some(Box::pin(async move {
            if let Some((generation, answer)) = refused {
                transport
                    .renew(generation, &answer)
                    .await
                    .map_err(connect_end)?;
            }
            let connecting = transport.connection(ConnectionRole::Watches, demand).await;
            connecting.map_err(connect_end)
        }));
    }

    /// Raises the priority of the attempt to connect: a caller waits for it now.
    pub(super) fn hurry(&mut self) {
        if self.connecting.is_some() && self.background {
            self.connect(Urgency::Call);
        }
    }

    /// Records that the server refused the token: the next stream needs another one.
    pub(super) fn renew(&mut self, refused: ServerError) {
        let generation = self.open.as_ref().map(|open| open.generation);
        self.refused = generation.map(|generation| (generation, refused));
    }

    /// Drops both halves of the stream, which resets it.
    pub(super) fn close(&mut self, condition: MemberCondition) {
        self.connecting = None;
        self.postponed_read = None;
        let Some(open) = self.open.take() else { return };
        self.transport
            .report(ConnectionRole::Watches, &open.connection, condition);
    }

    /// Sends a request on the stream.
    pub(super) fn send(&self, request: WatchRequest) {
        if let Some(open) = &self.open {
            // When the stream has ended, `poll` reports it.
            let _ = open.requests.send(request);
        }
    }

    /// Starts a linearizable read of the store's revision.
    pub(super) fn read(&mut self, key: Bytes) {
        if let Some(open) = &mut self.open {
            let arrived = Arc::clone(&open.arrived);
            open.reading = Some(Box::pin(read(open.connection.clone(), key, arrived)));
        }
    }

    /// Whether bytes have arrived on the stream since the last call.
    pub(super) fn has_arrived(&mut self) -> bool {
        self.open.as_mut().is_some_and(|open| {
            let arrived = open.arrived.load(Relaxed);
            std::mem::replace(&mut open.arrived_before, arrived) != arrived
        })
    }

    /// Polls for the next input.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Some(connecting) = &mut self.connecting
            && let Poll::Ready(result) = connecting.as_mut().poll(cx)
        {
            self.connecting = None;
            return Poll::Ready(match result {
                Ok(connection) => {
                    self.open = Some(Open::new(connection, self.transport.generation()));
                    Input::Opened
                }
                Err(ending) => Input::Ended(ending),
            });
        }
        if let Some(revision) = self.postponed_read.take() {
            return Poll::Ready(Input::Read(Ok(revision)));
        }
        let Some(open) = &mut self.open else {
            return Poll::Pending;
        };
        let input = open.poll(cx);
        if let Poll::Ready(Input::Read(Ok(revision))) = input {
            return Poll::Ready(self.read_of_epoch(revision));
        }
        input
    }
}

impl WatchStream {
    /// The input for a completed read. If the store was replaced since the last read, that is reported
    /// first.
    fn read_of_epoch(&mut self, revision: i64) -> Input {
        let store = self.transport.store();
        let epoch = store.epoch();
        if epoch == self.epoch {
            return Input::Read(Ok(revision));
        }
        self.epoch = epoch;
        self.postponed_read = Some(revision);
        let why = store.last_replacement().map(|reason| reason.to_string());
        Input::Replaced {
            epoch,
            why: why.unwrap_or_default(),
        }
    }
}

impl Open {
    fn new(connection: Connection, generation: u64) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let arrived = Arc::new(AtomicU64::new(0));
        let opening = connection.clone().duplex(queue, Arc::clone(&arrived));
        Open {
            arrived,
            arrived_before: 0,
            responses: Responses::Opening(Box::pin(opening)),
            version: Some(Box::pin(orders_progress(connection.clone()))),
            reading: None,
            known_at_open: connection.store.known(),
            connection,
            generation,
            requests,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Some(version) = &mut self.version
            && let Poll::Ready(orders_progress) = version.as_mut().poll(cx)
        {
            self.version = None;
            return Poll::Ready(Input::Version { orders_progress });
        }
        if let Some(reading) = &mut self.reading
            && let Poll::Ready(result) = reading.as_mut().poll(cx)
        {
            self.reading = None;
            return Poll::Ready(Input::Read(result));
        }
        if let Responses::Opening(opening) = &mut self.responses {
            match opening.as_mut().poll(cx) {
                Poll::Ready(Ok(stream)) => self.responses = Responses::Flowing(Box::new(stream)),
                Poll::Ready(Err(error)) => return self.end(stream_end(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Responses::Flowing(stream) = &mut self.responses else {
            return Poll::Pending;
        };
        let item = stream.poll_next(cx);
        if let Poll::Ready(Some(Ok(
            StreamItem::Message(message)
            | StreamItem::TooLarge {
                outline: message, ..
            },
        ))) = &item
            && let Some(header) = WatchRequest::header(message)
        {
            let store = &self.connection.store;
            store.answered(header, Consistency::Local, self.known_at_open);
        }
        match item {
            Poll::Ready(Some(Ok(StreamItem::Message(message)))) => {
                Poll::Ready(Input::Message(message))
            }
            Poll::Ready(Some(Ok(StreamItem::TooLarge {
                outline,
                entries,
                bytes,
            }))) => Poll::Ready(Input::TooLarge {
                outline,
                events: entries,
                bytes,
            }),
            Poll::Ready(Some(Err(error))) => self.end(stream_end(error)),
            Poll::Ready(None) => self.end(StreamEnd::Eof),
            Poll::Pending => Poll::Pending,
        }
    }

    fn end(&mut self, ending: StreamEnd) -> Poll<Input> {
        self.responses = Responses::Ended;
        Poll::Ready(Input::Ended(ending))
    }
}

/// The end of an attempt to connect. An answer of the server concerns the user's name and password.
fn connect_end(error: RpcError) -> StreamEnd {
    match error {
        RpcError::ConnectError(error) if error.kind == ErrorKind::Tls => {
            StreamEnd::TlsFailed(error.text)
        }
        RpcError::ConnectError(error) => StreamEnd::Unconnected(error.text),
        RpcError::Answer(answer) => StreamEnd::Answer(answer),
    }
}

fn stream_end(error: RpcError) -> StreamEnd {
    match error {
        RpcError::ConnectError(error) => StreamEnd::Broken(error.text),
        RpcError::Answer(answer) => StreamEnd::Answer(answer),
    }
}

/// Reads the revision of the store. A second read follows if the first leaves open whether the store
/// went back.
async fn read(
    connection: Connection,
    key: Bytes,
    arrived: Arc<AtomicU64>,
) -> Result<i64, StreamEnd> {
    let revision = read_once(connection.clone(), key.clone(), &arrived).await?;
    match connection.store.is_doubted() {
        true => read_once(connection, key, &arrived).await,
        false => Ok(revision),
    }
}

async fn read_once(
    connection: Connection,
    key: Bytes,
    arrived: &AtomicU64,
) -> Result<i64, StreamEnd> {
    let request = RangeRequest {
        key,
        limit: 1,
        count_only: true,
        ..RangeRequest::default()
    };
    let request = Framed::new(&request).consistency(Consistency::Linearizable);
    let mut answer = std::pin::pin!(connection.ask(request));
    loop {
        let before = arrived.load(Relaxed);
        match tokio::time::timeout(READ_WITHIN, &mut answer).await {
            Ok(Ok(response)) => {
                let revision = response.header.map(|header| header.revision);
                return revision.ok_or(StreamEnd::Broken(
                    "the server answered a read without a header".into(),
                ));
            }
            Ok(Err(error)) => return Err(stream_end(error)),
            Err(_) if arrived.load(Relaxed) != before => {}
            Err(_) => {
                let text = format!("the server did not answer a read in {READ_WITHIN:?}");
                return Err(StreamEnd::Silent(text));
            }
        }
    }
}

/// Whether the member sends the answer to a progress request after the events that it covers: since
/// 3.4.25 and 3.5.8.
async fn orders_progress(connection: Connection) -> bool {
    let status = connection.ask(Framed::new(&StatusRequest {}).needs_leader(false));
    match tokio::time::timeout(READ_WITHIN, status).await {
        Ok(Ok(response)) => is_ordered(&response.version),
        // All versions that require a user or a permission for this request are new enough.
        Ok(Err(error)) => matches!(
            error,
            RpcError::Answer(ServerError {
                kind: ErrorKind::PermissionDenied | ErrorKind::Unauthenticated,
                ..
            })
        ),
        Err(_) => false,
    }
}

fn is_ordered(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok);
    match (next(), next(), next()) {
        (Some(3), Some(4), Some(patch)) => patch >= 25,
        (Some(3), Some(5), Some(patch)) => patch >= 8,
        (Some(major), Some(minor), _) => (major, minor) >= (3, 6),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_ordered;

    #[test]
    fn versions_with_ordered_progress_are_recognised() {
        for version in ["3.4.25", "3.5.8", "3.6.0", "3.7.2", "3.6.0-rc.1", "4.0.0"] {
            assert!(is_ordered(version), "{version}");
        }
        for version in ["3.4.24", "3.5.7", "3.3.99", "", "x", "3"] {
            assert!(!is_ordered(version), "{version}");
        }
    }
}

//! The watch stream: its connection, the stream itself, and the reads over the same connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::revision_read::{READ_WITHIN, read_revision};
use super::state::{Input, StreamEnd};
use crate::error::{ErrorKind, ServerError};
use crate::grpc::etcd_rs_proto::etcdserverpb::{StatusRequest, WatchRequest, WatchResponse};
use crate::grpc::etcd_rs_proto::mvccpb::event::EventType;
use crate::grpc::{
    AttemptFailure, Connection, ConnectionRole, Consistency, Framed, GrpcStream, KnownStore,
    MemberCondition, RpcError, SharedStoreIdentity, StreamClosed, StreamEvent, StreamItem,
    Transport, Urgency,
};

type Fut<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A watch stream, or the attempt to open one.
pub(super) struct WatchStream {
    transport: Arc<Transport>,
    stream: GrpcStream<WatchRequest>,
    /// What belongs to the open stream.
    open: Option<Open>,
    /// The epoch of the store that was last reported to the watches.
    epoch: u64,
    /// A read from a store that replaced another one. It is reported after the replacement.
    postponed_read: Option<i64>,
}

/// What belongs to an open stream: the reads over the same connection.
struct Open {
    store: Arc<SharedStoreIdentity>,
    /// The state of the store that was known when the stream began.
    known_at_open: KnownStore,
    /// The known key was read on this stream, or none was known when it opened.
    compared: bool,
    /// The epoch of the store that the stream reports.
    epoch: u64,
    /// The number of bytes that had arrived at the last check.
    arrived_before: u64,
    version: Option<Fut<bool>>,
    reading: Option<Fut<Result<i64, StreamEnd>>>,
}

impl WatchStream {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        WatchStream {
            stream: transport.duplex(ConnectionRole::Watches),
            transport,
            open: None,
            epoch: 0,
            postponed_read: None,
        }
    }

    /// Starts to connect, with another token if the last one was rejected.
    pub(super) fn connect(&mut self, urgency: Urgency) {
        self.stream.open(urgency);
    }

    /// Raises the priority of the attempt to connect: a caller waits for it now.
    pub(super) fn hurry(&mut self) {
        self.stream.hurry();
    }

    /// Records that the server rejected the token: the next stream needs another one.
    pub(super) fn renew(&mut self, rejected: ServerError) {
        self.stream.token_rejected(rejected);
    }

    /// Closes the stream, which resets it.
    pub(super) fn close(&mut self, condition: MemberCondition) {
        self.open = None;
        self.postponed_read = None;
        self.stream.close(condition);
    }

    /// Sends a request on the stream.
    pub(super) fn send(&self, request: WatchRequest) {
        self.stream.send(request);
    }

    /// Starts a linearizable read of the store's revision.
    pub(super) fn read(&mut self, key: Bytes) {
        if let Some(open) = &mut self.open
            && let Some(connection) = self.stream.connection()
            && let Some(received) = self.stream.received()
        {
            let compared = open.compared;
            let reading = read_revision(connection.clone(), key, Arc::clone(received), compared);
            open.reading = Some(Box::pin(reading));
        }
    }

    /// Whether bytes have arrived on the stream since the last call.
    pub(super) fn has_arrived(&mut self) -> bool {
        let (Some(open), Some(received)) = (&mut self.open, self.stream.received()) else {
            return false;
        };
        let arrived = received.bytes();
        std::mem::replace(&mut open.arrived_before, arrived) != arrived
    }

    /// Polls for the next input.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        // After `Replaced`, which was returned for the same read.
        if let Some(revision) = self.postponed_read.take() {
            return Poll::Ready(Input::Read(Ok(revision)));
        }
        if let Some(open) = &mut self.open {
            match open.poll(cx) {
                Poll::Ready(Input::Read(Ok(revision))) => {
                    return Poll::Ready(self.read_of_epoch(revision));
                }
                Poll::Ready(input) => return Poll::Ready(input),
                Poll::Pending => {}
            }
        }
        Poll::Ready(match ready!(self.stream.poll_item(cx)) {
            StreamEvent::Opened => {
                self.open = self.stream.connection().map(Open::new);
                Input::Opened
            }
            StreamEvent::Message(StreamItem::Message(message)) => {
                self.check_header(&message);
                Input::Message(message)
            }
            StreamEvent::Message(StreamItem::TooLarge {
                outline,
                entries,
                bytes,
            }) => {
                self.check_header(&outline);
                Input::TooLarge {
                    outline,
                    events: entries,
                    bytes,
                }
            }
            StreamEvent::Closed(closed) => {
                self.open = None;
                Input::Ended(stream_end(closed))
            }
        })
    }

    fn check_header(&self, message: &WatchResponse) {
        if let Some(open) = &self.open
            && let Some(header) = &message.header
        {
            let store = self.transport.store();
            // A watch is answered from the member's own data, which may be older than that of other
            // members.
            store.answered(header, Consistency::Local, open.known_at_open);
            let mut puts = message.events.iter().rev();
            let put = puts.find(|event| event.r#type == i32::from(EventType::Put));
            if open.compared
                && let Some(kv) = put.and_then(|event| event.kv.as_ref())
                && kv.mod_revision <= header.revision
            {
                store.watched(open.epoch, &kv.key, kv.mod_revision);
            }
        }
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
    fn new(connection: &Connection) -> Self {
        let known_at_open = connection.store.known();
        Open {
            known_at_open,
            epoch: known_at_open.epoch,
            store: Arc::clone(&connection.store),
            compared: connection.store.seen().is_none(),
            arrived_before: 0,
            version: Some(Box::pin(orders_progress(connection.clone()))),
            reading: None,
        }
    }

    /// Polls the reads over the connection of the stream.
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
            if result.is_ok() {
                self.compared = true;
                self.epoch = self.store.epoch();
            }
            return Poll::Ready(Input::Read(result));
        }
        Poll::Pending
    }
}

/// The end of a stream, or of the attempt to open it. Without a connection, an answer of the server
/// concerns the user's name and password.
fn stream_end(closed: StreamClosed) -> StreamEnd {
    match closed.failure {
        None => StreamEnd::Eof,
        Some(AttemptFailure::NoConnection(error)) if error.kind == ErrorKind::Tls => {
            StreamEnd::TlsFailed(error.text)
        }
        Some(AttemptFailure::NoConnection(error)) => StreamEnd::Unconnected(error.text),
        Some(AttemptFailure::Broken(error)) => StreamEnd::Broken(error.text),
        Some(AttemptFailure::Silence) => StreamEnd::Silent("the server is silent".into()),
        Some(AttemptFailure::Status(answer)) => StreamEnd::Answer(answer),
    }
}

/// Whether the member sends the answer to a progress request after the events that it covers: since
/// 3.4.25 and 3.5.8.
async fn orders_progress(connection: Connection) -> bool {
    let status = connection.unary(Framed::new(&StatusRequest {}).needs_leader(false));
    match tokio::time::timeout(READ_WITHIN, status).await {
        Ok(Ok(response)) => is_ordered(&response.version),
        // All versions that require a user or a permission for this request are new enough.
        Ok(Err(error)) => matches!(
            error,
            RpcError::Status(ServerError {
                kind: ErrorKind::PermissionDenied | ErrorKind::Unauthenticated,
                ..
            })
        ),
        // A member that does not report its version is treated like an old one.
        Err(_) => false,
    }
}

fn is_ordered(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok);
    match (next(), next(), next()) {
        (Some(3), Some(4), Some(patch)) => patch >= 25,
        (Some(3), Some(5), Some(patch)) => patch >= 8,
        // A release with both numbers, also one before its first patch.
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

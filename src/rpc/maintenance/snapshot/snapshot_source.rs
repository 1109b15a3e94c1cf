//! The snapshot stream of a member, on a connection of its own. It is read on demand.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use crate::grpc::{
    AttemptFailure, Call, Connection, ConnectionRole, GrpcStream, StreamClosed, StreamEvent,
    Transport,
};

/// The most bytes that one read returns, if they have arrived. A message has 32 KiB, and a switch to the
/// runtime thread for each message would cost more than the message.
const MAX_READ: usize = 1 << 20;

/// An open snapshot stream.
pub(super) struct SnapshotSource {
    endpoint: Arc<str>,
    stream: Box<GrpcStream<SnapshotRequest>>,
}

/// The result of a read.
pub(super) struct ReadMessages {
    pub(super) messages: Vec<SnapshotResponse>,
    pub(super) next: NextRead,
}

/// The state of the stream after a read.
pub(super) enum NextRead {
    More(SnapshotSource),
    End,
    Failure(Error),
}

/// Requests a snapshot, and waits for its first message.
pub(super) async fn open(
    transport: Arc<Transport>,
    timeout: Duration,
) -> Result<(SnapshotSource, SnapshotResponse)> {
    let operation = || Operation::new("snapshot");
    let for_streams = Arc::clone(&transport);
    let attempt = |connection: Connection| {
        let stream = for_streams.server_stream(ConnectionRole::Bulk, SnapshotRequest {});
        // A member without a leader can send its own data.
        let mut stream = Box::new(stream.needs_leader(false));
        async move {
            let endpoint = Arc::clone(&connection.endpoint.text);
            let first = stream.first(connection, None).await?;
            Ok((SnapshotSource { endpoint, stream }, first))
        }
    };
    // A snapshot fills its connection: other requests would be delayed on it.
    let call = Call::read(timeout).dedicated_connection();
    transport.repeat(call, operation, attempt).await
}

impl SnapshotSource {
    /// Waits for the next message, at most for `stall`, and returns it with the messages that have
    /// arrived as well.
    ///
    /// Nothing is read between two calls: the flow control window of the connection then fills up, and
    /// the server waits.
    pub(super) async fn read(mut self, stall: Duration) -> ReadMessages {
        let mut messages = Vec::new();
        let mut size = 0;
        let mut event = self.stream.next_within(stall).await;
        loop {
            match event {
                StreamEvent::Message(message) => {
                    size += message.blob.len();
                    messages.push(message);
                }
                StreamEvent::Closed(StreamClosed { failure, .. }) => {
                    let next = match failure {
                        None => NextRead::End,
                        Some(failure) => NextRead::Failure(self.explain(failure, stall)),
                    };
                    return ReadMessages { messages, next };
                }
                StreamEvent::Opened => {}
            }
            // Messages that have already arrived are returned together, up to a bound of memory.
            let ready = if size < MAX_READ {
                poll_fn(|cx| Poll::Ready(self.stream.poll_message(cx))).await
            } else {
                Poll::Pending
            };
            event = match ready {
                Poll::Ready(event) => event,
                Poll::Pending => {
                    let next = NextRead::More(self);
                    return ReadMessages { messages, next };
                }
            };
        }
    }

    pub(super) fn endpoint(&self) -> Arc<str> {
        Arc::clone(&self.endpoint)
    }

    fn explain(&self, failure: AttemptFailure, stall: Duration) -> Error {
        let (kind, reason) = match failure {
            AttemptFailure::Silence => (
                ErrorKind::Timeout,
                format!("the server sent nothing for {stall:?}"),
            ),
            AttemptFailure::Broken(error) | AttemptFailure::NoConnection(error) => {
                (error.kind, format!("the stream broke: {}", error.text))
            }
            AttemptFailure::Status(answer) => (answer.kind, answer.text),
        };
        Error::new(kind, reason).at(Some(self.endpoint()))
    }
}

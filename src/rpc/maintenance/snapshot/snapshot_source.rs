//! The snapshot stream of a member, on a connection of its own. It is read on demand.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use crate::grpc::{Call, Connection, RpcError, Transport, classify, outgoing};

/// The most bytes that one read returns, if they have arrived. A message has 32 KiB, and a switch to the
/// runtime thread for each message would cost more than the message.
const MAX_READ: usize = 1 << 20;

/// An open snapshot stream.
pub(super) struct SnapshotSource {
    connection: Connection,
    messages: Box<Streaming<SnapshotResponse>>,
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
    // Boxed, because the futures of the stubs have several kilobytes.
    let attempt = |connection| {
        Box::pin(async { begin(connection).await.map_err(|status| classify(&status)) })
    };
    let opening = transport.calling(
        Call::read(timeout).dedicated_connection(),
        operation,
        attempt,
    );
    opening.await
}

async fn begin(connection: Connection) -> Result<(SnapshotSource, SnapshotResponse), Status> {
    let mut stub = connection.clone().maintenance();
    let opening = stub.snapshot(outgoing(SnapshotRequest {}, false));
    let mut messages = Box::new(opening.await?.into_inner());
    let first = messages.message().await?;
    let source = SnapshotSource {
        connection,
        messages,
    };
    first
        .map(|first| (source, first))
        .ok_or_else(|| Status::unavailable("the server sent an empty snapshot"))
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
        let first = std::future::poll_fn(|cx| Pin::new(&mut *self.messages).poll_next(cx));
        let mut next = match timeout(stall, first).await {
            Ok(next) => next,
            Err(_) => {
                let reason = format!("the server sent nothing for {stall:?}");
                let error = self.failure(ErrorKind::Timeout, reason);
                return ReadMessages {
                    messages,
                    next: NextRead::Failure(error),
                };
            }
        };
        loop {
            match next {
                Some(Ok(message)) => {
                    size += message.blob.len();
                    messages.push(message);
                }
                Some(Err(status)) => {
                    let next = NextRead::Failure(self.explain(&status));
                    return ReadMessages { messages, next };
                }
                None => {
                    let next = NextRead::End;
                    return ReadMessages { messages, next };
                }
            }
            let ready = if size < MAX_READ {
                std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *self.messages).poll_next(cx)))
                    .await
            } else {
                Poll::Pending
            };
            next = match ready {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    let next = NextRead::More(self);
                    return ReadMessages { messages, next };
                }
            };
        }
    }

    pub(super) fn endpoint(&self) -> Arc<str> {
        Arc::clone(&self.connection.endpoint.text)
    }

    fn explain(&self, status: &Status) -> Error {
        match classify(status) {
            RpcError::ConnectError(error) => {
                self.failure(error.kind, format!("the stream broke: {}", error.text))
            }
            RpcError::Answer(answer) => self.failure(answer.kind, answer.text),
        }
    }

    fn failure(&self, kind: ErrorKind, reason: String) -> Error {
        Error::new(kind, reason).at(Some(self.endpoint()))
    }
}

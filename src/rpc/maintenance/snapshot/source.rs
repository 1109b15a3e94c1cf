//! The stream of a snapshot on the wire: opened on a connection of its own, read when asked.

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

/// So much is read at a time, when it is there: a message is 32 KiB, and a way to the runtime and
/// back for each would cost more than the message.
const TOGETHER: usize = 1 << 20;

/// A snapshot under way.
pub(super) struct Source {
    connection: Connection,
    messages: Box<Streaming<SnapshotResponse>>,
}

/// What was read.
pub(super) struct Read {
    pub(super) messages: Vec<SnapshotResponse>,
    pub(super) then: Then,
}

/// What comes after it.
pub(super) enum Then {
    More(Source),
    End,
    Failure(Error),
}

/// Asks a member for a snapshot, and waits for its first message.
pub(super) async fn open(
    transport: Arc<Transport>,
    timeout: Duration,
) -> Result<(Source, SnapshotResponse)> {
    let operation = || Operation::new("snapshot");
    // The futures of the stubs are kilobytes large: in a box they are not moved around.
    let attempt = |connection| {
        Box::pin(async { begin(connection).await.map_err(|status| classify(&status)) })
    };
    let opening = transport.calling(Call::read(timeout).alone(), operation, attempt);
    opening.await
}

async fn begin(connection: Connection) -> Result<(Source, SnapshotResponse), Status> {
    let mut stub = connection.clone().maintenance();
    let asked = stub.snapshot(outgoing(SnapshotRequest {}, false));
    let mut messages = Box::new(asked.await?.into_inner());
    let first = messages.message().await?;
    let source = Source {
        connection,
        messages,
    };
    first
        .map(|first| (source, first))
        .ok_or_else(|| Status::unavailable("the server sent an empty snapshot"))
}

impl Source {
    /// Waits for the next message, at most for `stall`, and takes what has come with it.
    ///
    /// Nobody reads in between: what the server sent then waits in the window of the connection, and
    /// when that is full, the server waits.
    pub(super) async fn read(mut self, stall: Duration) -> Read {
        let mut messages = Vec::new();
        let mut size = 0;
        let first = std::future::poll_fn(|cx| Pin::new(&mut *self.messages).poll_next(cx));
        let mut next = match timeout(stall, first).await {
            Ok(next) => next,
            Err(_) => {
                let reason = format!("nothing came for {stall:?}");
                let error = self.failure(ErrorKind::Timeout, reason);
                return Read {
                    messages,
                    then: Then::Failure(error),
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
                    let then = Then::Failure(self.explain(&status));
                    return Read { messages, then };
                }
                None => {
                    let then = Then::End;
                    return Read { messages, then };
                }
            }
            let ready = if size < TOGETHER {
                std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *self.messages).poll_next(cx)))
                    .await
            } else {
                Poll::Pending
            };
            next = match ready {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    let then = Then::More(self);
                    return Read { messages, then };
                }
            };
        }
    }

    pub(super) fn endpoint(&self) -> Arc<str> {
        Arc::clone(&self.connection.endpoint.text)
    }

    fn explain(&self, status: &Status) -> Error {
        match classify(status) {
            RpcError::ConnectError(fault) => {
                self.failure(fault.kind, format!("it broke off: {}", fault.text))
            }
            RpcError::Answer(answer) => self.failure(answer.kind, answer.text),
        }
    }

    fn failure(&self, kind: ErrorKind, reason: String) -> Error {
        Error::new(kind, reason).at(Some(self.endpoint()))
    }
}

//! The two halves of an open stream: tonic's client and codec over one connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::Stream as _;
use tonic::Status;
use tonic::client::Grpc;

use super::connect::connection::Connection;
use super::etcd_rs_proto::Streaming;
use super::grpc_status::malformed;
use super::received::Received;
use super::rpc_error::RpcError;
use super::stream_codec::{StreamCodec, StreamItem};
use super::stream_service::StreamService;

type Establishing<R> =
    Pin<Box<dyn Future<Output = Result<tonic::Streaming<StreamItem<R>>, Status>> + Send>>;

/// The two halves of an open stream. Their drop resets the stream on the server.
pub(super) struct StreamHalves<M: Streaming> {
    pub(super) connection: Connection,
    /// The generation of the token that the stream was opened with. The server checks no other
    /// token during the stream.
    pub(super) generation: u64,
    pub(super) received: Arc<Received>,
    /// `None` after the last message of the client.
    requests: Option<mpsc::UnboundedSender<M>>,
    responses: Responses<M::Reply>,
}

/// The receiving half. A server sends its headers with its first message, so requests are sent
/// before the stream is established.
enum Responses<R> {
    Awaited(Establishing<R>),
    Established(Box<tonic::Streaming<StreamItem<R>>>),
}

impl<M: Streaming> StreamHalves<M> {
    /// Opens a stream. The request is sent with the first message, when the stream is polled.
    pub(super) fn open(connection: Connection, generation: u64, needs_leader: bool) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        let received = Arc::new(Received::default());
        let establishing = establish(
            connection.clone(),
            queue,
            needs_leader,
            Arc::clone(&received),
        );
        StreamHalves {
            connection,
            generation,
            received,
            requests: Some(requests),
            responses: Responses::Awaited(establishing),
        }
    }

    /// Sends a message. On a stream that has ended it does nothing: `poll` reports the end.
    pub(super) fn send(&self, message: M) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(message);
        }
    }

    /// Sends the last message.
    pub(super) fn send_last(&mut self, message: M) {
        self.send(message);
        self.requests = None;
    }

    /// Polls for the next message; `None` when the server ended the stream without an error.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<StreamItem<M::Reply>>, RpcError>> {
        let polled = self.responses.poll(cx);
        polled.map_err(|status| error_of(&status))
    }
}

impl<R> Responses<R> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<StreamItem<R>>, Status>> {
        if let Responses::Awaited(awaited) = self {
            let established = ready!(awaited.as_mut().poll(cx))?;
            *self = Responses::Established(Box::new(established));
        }
        match self {
            Responses::Established(messages) => Pin::new(&mut **messages)
                .poll_next(cx)
                .map(Option::transpose),
            Responses::Awaited(_) => Poll::Pending,
        }
    }
}

/// Opens the stream with tonic's client. Boxed, because the future has several kilobytes.
fn establish<M: Streaming>(
    connection: Connection,
    queue: mpsc::UnboundedReceiver<M>,
    needs_leader: bool,
    received: Arc<Received>,
) -> Establishing<M::Reply> {
    Box::pin(async move {
        let origin = connection.origin.clone();
        let codec = StreamCodec::<M>::new(Arc::clone(&received));
        let service = StreamService::new(connection, needs_leader, received);
        let mut client = Grpc::with_origin(service, origin)
            // The body of the response keeps to the client's limit.
            .max_decoding_message_size(usize::MAX)
            // The size of a request was checked before the call, with a better error.
            .max_encoding_message_size(usize::MAX);
        let requests = tonic::Request::new(Requests(queue));
        let path = PathAndQuery::from_static(M::PATH);
        let response = client.streaming(requests, path, codec).await?;
        Ok(response.into_inner())
    })
}

/// The messages of the client, for tonic.
struct Requests<M>(mpsc::UnboundedReceiver<M>);

impl<M> tokio_stream::Stream for Requests<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<M>> {
        self.0.poll_recv(cx)
    }
}

/// The error in tonic's status: ours, which is its source, or a breach of the protocol that tonic
/// found.
fn error_of(status: &Status) -> RpcError {
    let source = std::error::Error::source(status).and_then(|source| source.downcast_ref());
    match source {
        Some(error) => RpcError::clone(error),
        None => malformed(status.message()),
    }
}

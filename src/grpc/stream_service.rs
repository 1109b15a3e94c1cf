//! The HTTP service below tonic's client: sends a request over one connection.
//!
//! A request whose body is complete is sent at once: its headers and data are queued together, and
//! h2 writes the queue in one system call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use h2::client::SendRequest;
use http::{HeaderValue, StatusCode};
use http_body::Body as HttpBody;
use tonic::body::Body;
use tonic::client::GrpcService;

use super::connect::connection::Connection;
use super::connect::open_stream::OpenStream;
use super::grpc_status::{check, not_grpc};
use super::received::Received;
use super::response_body::{ResponseBody, status_ok};
use super::rpc_error::RpcError;

/// Opens one stream.
#[derive(Debug)]
pub(super) struct StreamService {
    connection: Connection,
    needs_leader: bool,
    received: Arc<Received>,
}

impl StreamService {
    /// `needs_leader`: a member without a leader rejects the request at once instead of holding it.
    pub(super) fn new(connection: Connection, needs_leader: bool, received: Arc<Received>) -> Self {
        StreamService {
            connection,
            needs_leader,
            received,
        }
    }
}

impl GrpcService<Body> for StreamService {
    type ResponseBody = ResponseBody;
    type Error = RpcError;
    type Future =
        Pin<Box<dyn Future<Output = Result<http::Response<ResponseBody>, RpcError>> + Send>>;

    /// Always ready: the call itself waits, so an error keeps its type.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), RpcError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if self.needs_leader {
            let required = HeaderValue::from_static("true");
            request.headers_mut().insert("hasleader", required);
        }
        self.connection.attach_token(&mut request);
        let open = OpenStream::new(&self.connection);
        let send = SendRequest::clone(&self.connection.send);
        let (limit, received) = (self.connection.limits.receive, Arc::clone(&self.received));
        Box::pin(send_request(send, request, open, limit, received))
    }
}

async fn send_request(
    send: SendRequest<Bytes>,
    request: http::Request<Body>,
    mut open: OpenStream,
    limit: usize,
    received: Arc<Received>,
) -> Result<http::Response<ResponseBody>, RpcError> {
    let not_sent = |open: &OpenStream, error| RpcError::Connection(open.not_sent(&error));
    let ready = send.ready().await;
    let mut send = ready.map_err(|error| not_sent(&open, error))?;
    let (parts, mut body) = request.into_parts();
    let first = std::future::poll_fn(|cx| Poll::Ready(Chunk::poll(&mut body, cx))).await;
    let (response, stream) = send
        .send_request(http::Request::from_parts(parts, ()), false)
        .map_err(|error| not_sent(&open, error))?;
    let sender = BodySender {
        body,
        stream,
        first: Some(first),
    };
    if let Some(sender) = sender.now().await {
        // The body of a bidirectional stream stays open. The task ends with the body or with the
        // stream.
        open.mark_long_lived();
        tokio::spawn(sender);
    }
    let broken = |error| RpcError::Connection(open.explain(&error));
    let (head, stream) = response.await.map_err(broken)?.into_parts();
    if head.status != StatusCode::OK {
        return Err(not_grpc(head.status));
    }
    let has_status = check(&head.headers)?;
    let body = ResponseBody::new(stream, open, limit, received, has_status);
    let mut response = http::Response::new(body);
    if has_status {
        *response.headers_mut() = status_ok();
    }
    Ok(response)
}

/// What a request body provides now.
enum Chunk {
    Data(Bytes),
    End,
    Later,
}

impl Chunk {
    fn poll(body: &mut Body, cx: &mut Context<'_>) -> Chunk {
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Chunk::Later,
                // The codec cannot fail on these messages; if it did, there would be nothing to
                // send.
                Poll::Ready(None | Some(Err(_))) => return Chunk::End,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Chunk::Data(data),
                    Err(_not_data) => {}
                },
            }
        }
    }
}

/// Sends a request body on its stream.
struct BodySender {
    body: Body,
    stream: SendStream<Bytes>,
    first: Option<Chunk>,
}

impl BodySender {
    /// Sends what the body provides now. Returns the sender when more may follow.
    async fn now(mut self) -> Option<BodySender> {
        let ended = std::future::poll_fn(|cx| Poll::Ready(self.step(cx))).await;
        match ended {
            Poll::Ready(()) => None,
            Poll::Pending => Some(self),
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut chunk = match self.first.take() {
            Some(chunk) => chunk,
            None => Chunk::poll(&mut self.body, cx),
        };
        loop {
            let data = match chunk {
                Chunk::Later => return Poll::Pending,
                Chunk::End => Bytes::new(),
                Chunk::Data(data) => data,
            };
            let next = if data.is_empty() {
                Chunk::End
            } else {
                Chunk::poll(&mut self.body, cx)
            };
            let last = matches!(next, Chunk::End);
            // The error is that of the stream; its response reports it.
            if self.stream.send_data(data, last).is_err() || last {
                return Poll::Ready(());
            }
            chunk = next;
        }
    }
}

impl Future for BodySender {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => self.step(cx),
        }
    }
}

//! The HTTP service that the generated stubs of the streaming methods call.
//!
//! A request whose body is complete is sent at once: its headers and data are queued together, and
//! h2 writes the queue in one system call.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use h2::client::SendRequest;
use http_body::Body as HttpBody;
use tonic::body::Body;
use tower_service::Service;

use super::connect_error::ConnectError;
use super::connection::Connection;
use super::open_stream::OpenStream;
use super::response_body::ResponseBody;

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<ResponseBody>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    /// Always ready: the call itself waits, so an error keeps its type.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        self.attach_token(&mut request);
        let open = OpenStream::new(self);
        Box::pin(exchange(SendRequest::clone(&self.send), request, open))
    }
}

async fn exchange(
    send: SendRequest<Bytes>,
    request: http::Request<Body>,
    mut open: OpenStream,
) -> Result<http::Response<ResponseBody>, ConnectError> {
    let ready = send.ready().await;
    let mut send = ready.map_err(|error| open.not_sent(&error))?;
    let (parts, mut body) = request.into_parts();
    let first = std::future::poll_fn(|cx| Poll::Ready(Chunk::poll(&mut body, cx))).await;
    let (response, stream) = send
        .send_request(http::Request::from_parts(parts, ()), false)
        .map_err(|error| open.not_sent(&error))?;
    let sender = BodySender {
        body,
        stream,
        first: Some(first),
    };
    if let Some(sender) = sender.now().await {
        // The body of a bidirectional stream stays open. The task ends with the body or with the
        // stream.
        open.flows();
        tokio::spawn(sender);
    }
    let response = response.await.map_err(|error| open.explain(&error))?;
    Ok(response.map(|stream| ResponseBody::new(stream, open)))
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

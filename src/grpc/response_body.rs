//! The body of a streaming response, as tonic reads it.
//!
//! It keeps from tonic what tonic would answer with a text only: large messages, statuses, and
//! breaches of the protocol. An error of the body is the source of tonic's status, and keeps its type.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame};

use super::connect::open_stream::OpenStream;
use super::grpc_status::{check, malformed};
use super::message_splitter::{HEADER, MessagePart, MessageSplitter};
use super::received::Received;
use super::rpc_error::RpcError;

/// An empty message with its header.
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; HEADER]);

/// The body of a streaming response.
#[derive(Debug)]
pub(super) struct ResponseBody {
    stream: RecvStream,
    open: OpenStream,
    splitter: MessageSplitter,
    received: Arc<Received>,
    /// Received bytes that tonic has not read.
    data: Bytes,
    data_ended: bool,
    has_status: bool,
}

impl ResponseBody {
    /// `has_status`: the headers had the status, and no trailers follow.
    pub(super) fn new(
        stream: RecvStream,
        open: OpenStream,
        limit: usize,
        received: Arc<Received>,
        has_status: bool,
    ) -> Self {
        ResponseBody {
            stream,
            open,
            splitter: MessageSplitter::new(limit),
            received,
            data: Bytes::new(),
            data_ended: false,
            has_status,
        }
    }

    /// The next bytes for tonic that have already arrived.
    fn split(&mut self) -> Result<Option<Bytes>, RpcError> {
        while !self.data.is_empty() {
            match self.splitter.split(&mut self.data)? {
                MessagePart::Small(bytes) if bytes.is_empty() => {}
                MessagePart::Small(bytes) => return Ok(Some(bytes)),
                MessagePart::Large { number, message } => {
                    self.received.add_large(number, message);
                    return Ok(Some(EMPTY_MESSAGE));
                }
            }
        }
        Ok(None)
    }

    /// Checks that the response ended correctly; `trailers` follow its last message.
    fn end(&mut self, trailers: &HeaderMap) -> Result<(), RpcError> {
        if !check(trailers)? && !self.has_status {
            return Err(malformed("a stream without a gRPC status"));
        }
        match self.splitter.is_inside_message() {
            true => Err(malformed("the stream ends inside a message")),
            false => Ok(()),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame<Bytes>, RpcError>> {
        let broken = |open: &OpenStream, error| RpcError::Connection(open.explain(&error));
        while !self.data_ended {
            if let Some(bytes) = self.split()? {
                return Poll::Ready(Ok(Frame::data(bytes)));
            }
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails only on a closed stream, which the next poll reports.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.received.add_bytes(data.len());
                    self.data = data;
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(&self.open, error))),
                None => self.data_ended = true,
            }
        }
        let trailers = match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.unwrap_or_default(),
            Err(error) => return Poll::Ready(Err(broken(&self.open, error))),
        };
        self.end(&trailers)?;
        Poll::Ready(Ok(Frame::trailers(status_ok())))
    }
}

/// The only header of a response that tonic reads.
pub(super) fn status_ok() -> HeaderMap {
    HeaderMap::from_iter([(tonic::Status::GRPC_STATUS, HeaderValue::from_static("0"))])
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = RpcError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RpcError>>> {
        (*self).poll(cx).map(Some)
    }
}

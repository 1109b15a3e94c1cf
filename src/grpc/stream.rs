//! A bidirectional stream of messages, directly on `h2`.
//!
//! tonic ends a stream at the first message over the limit, before the message is decoded. On a
//! stream that many watches share, that would end all of them. This reader skips such a message
//! without keeping it, returns its small fields, and continues.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as _;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec as _, EncodeBody};
use tower_service::Service as _;

use super::codec::Codec;
use super::connect::connection::Connection;
use super::connect::response_body::ResponseBody;
use super::oversized_message::OversizedScanner;
use super::rpc_error::RpcError;
use super::unary::{HEAD, announced, check, malformed, not_grpc};
use crate::grpc::etcd_rs_proto::Duplex;
use crate::util::atomic::AtomicU64;

/// A message of this size gets its own memory. Smaller messages share a buffer with their
/// neighbours, so a part of one that is kept retains at most this many bytes.
const SHARED: usize = 64 * 1024;

/// An item of a stream.
#[derive(Debug)]
pub(crate) enum StreamItem<M> {
    Message(M),
    /// A message over the client's limit: its fields without lists and strings, the number of
    /// skipped entries, and its size.
    TooLarge {
        outline: M,
        entries: usize,
        bytes: usize,
    },
}

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct GrpcStream<M> {
    body: ResponseBody,
    messages: Messages,
    arrived: Arc<AtomicU64>,
    message: PhantomData<M>,
}

/// The sending half of a stream, as a request body.
struct Outgoing<M>(mpsc::UnboundedReceiver<M>);

impl<M> Stream for Outgoing<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|message| message.map(Ok))
    }
}

impl Connection {
    /// Opens a stream. At least one request must be queued, because a server sends its headers with
    /// its first response.
    ///
    /// `arrived` counts the received bytes.
    pub(crate) async fn duplex<M: Duplex>(
        mut self,
        requests: mpsc::UnboundedReceiver<M>,
        arrived: Arc<AtomicU64>,
    ) -> Result<GrpcStream<M::Reply>, RpcError> {
        let encoder = Codec::<M, M::Reply>::default().encoder();
        let body = EncodeBody::new_client(encoder, Outgoing(requests), None, None);
        let request = self.head(M::PATH, true).map(|()| Body::new(body));
        let limit = self.limits.receive;
        let response = self.call(request).await.map_err(RpcError::ConnectError)?;
        let (head, body) = response.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(not_grpc(head.status));
        }
        check(&head.headers)?;
        Ok(GrpcStream {
            body,
            messages: Messages::new(limit),
            arrived,
            message: PhantomData,
        })
    }
}

impl<M: Message + Default> GrpcStream<M> {
    /// Polls for the next message; `None` when the server ended the stream without an error.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamItem<M>, RpcError>>> {
        loop {
            match self.messages.next() {
                Ok(Some(frame)) => return Poll::Ready(Some(frame.decode())),
                Ok(None) => {}
                Err(problem) => return Poll::Ready(Some(Err(problem))),
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(fault)) => return Poll::Ready(Some(Err(RpcError::ConnectError(fault)))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    self.arrived.fetch_add(data.len() as u64, Relaxed);
                    self.messages.push(data);
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return Poll::Ready(check(&trailers).err().map(Err));
                }
            }
        }
    }
}

/// A received message that is not decoded yet.
#[derive(Debug)]
enum Frame {
    Message(Bytes),
    TooLarge {
        outline: Bytes,
        entries: usize,
        bytes: usize,
    },
}

impl Frame {
    fn decode<M: Message + Default>(self) -> Result<StreamItem<M>, RpcError> {
        let decode = |bytes| M::decode(bytes).map_err(|error| malformed(&error.to_string()));
        Ok(match self {
            Frame::Message(bytes) => StreamItem::Message(decode(bytes)?),
            Frame::TooLarge {
                outline,
                entries,
                bytes,
            } => StreamItem::TooLarge {
                outline: decode(outline)?,
                entries,
                bytes,
            },
        })
    }
}

/// Splits the received bytes into messages.
#[derive(Debug)]
struct Messages {
    buffer: BytesMut,
    limit: usize,
    /// The message that is skipped: its length, its remaining bytes, and its scanner.
    passing: Option<(usize, usize, OversizedScanner)>,
    /// The received bytes that belong to the skipped message and to those after it.
    behind: Bytes,
}

impl Messages {
    fn new(limit: usize) -> Self {
        Messages {
            buffer: BytesMut::new(),
            limit,
            passing: None,
            behind: Bytes::new(),
        }
    }

    /// Adds received bytes. The caller has taken all complete messages before.
    fn push(&mut self, data: Bytes) {
        if self.passing.is_some() {
            self.behind = data;
        } else {
            self.buffer.extend_from_slice(&data);
        }
    }

    /// Returns the next complete message.
    fn next(&mut self) -> Result<Option<Frame>, RpcError> {
        if self.passing.is_none() {
            let Some(length) = announced(&self.buffer)? else {
                return Ok(None);
            };
            if length <= self.limit {
                return Ok(self.take(HEAD + length));
            }
            self.buffer.advance(HEAD);
            self.behind = std::mem::take(&mut self.buffer).freeze();
            self.passing = Some((length, length, OversizedScanner::default()));
        }
        self.pass()
    }

    /// Returns the message that ends after `end` bytes, if it is complete.
    fn take(&mut self, end: usize) -> Option<Frame> {
        if self.buffer.len() < end {
            self.buffer.reserve(end - self.buffer.len());
            return None;
        }
        let mut message = if end > SHARED {
            let rest = BytesMut::from(self.buffer.get(end..).unwrap_or_default());
            let mut message = std::mem::replace(&mut self.buffer, rest);
            message.truncate(end);
            message
        } else {
            self.buffer.split_to(end)
        };
        message.advance(HEAD);
        Some(Frame::Message(message.freeze()))
    }

    /// Skips the received part of an oversized message.
    fn pass(&mut self) -> Result<Option<Frame>, RpcError> {
        let Some((length, mut left, mut outline)) = self.passing.take() else {
            return Ok(None);
        };
        let part = self.behind.split_to(left.min(self.behind.len()));
        let malformed = |_| malformed("an oversized message is not valid protobuf");
        outline.push(&part).map_err(malformed)?;
        left -= part.len();
        if left > 0 {
            self.passing = Some((length, left, outline));
            return Ok(None);
        }
        self.buffer
            .extend_from_slice(&std::mem::take(&mut self.behind));
        let (outline, entries) = outline.finish().map_err(malformed)?;
        Ok(Some(Frame::TooLarge {
            outline,
            entries,
            bytes: length,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::grpc::etcd_rs_proto::etcdserverpb::WatchResponse;

    fn response(watch_id: i64, reason: usize) -> WatchResponse {
        WatchResponse {
            watch_id,
            cancel_reason: "r".repeat(reason),
            ..WatchResponse::default()
        }
    }

    fn framed(response: &WatchResponse) -> Vec<u8> {
        let message = response.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0][..], &length, &message].concat()
    }

    fn read(bytes: &[u8], pieces: usize, limit: usize) -> Result<Vec<Frame>, RpcError> {
        let mut messages = Messages::new(limit);
        let mut read = Vec::new();
        for piece in bytes.chunks(pieces) {
            messages.push(Bytes::copy_from_slice(piece));
            while let Some(frame) = messages.next()? {
                read.push(frame);
            }
            assert!(messages.buffer.capacity() <= 2 * (limit + SHARED));
        }
        Ok(read)
    }

    #[test]
    fn messages_over_the_limit_are_passed_over_and_the_others_come_whole_and_in_order() {
        let sizes = [0, 10, 5000, 20, 700_000, 0, 5001, 3, 200_000];
        let responses: Vec<_> = (1..)
            .zip(sizes)
            .map(|(n, size)| response(n, size))
            .collect();
        let bytes: Vec<u8> = responses.iter().flat_map(framed).collect();
        for (pieces, limit) in [
            (1, 4000),
            (5, 4000),
            (16_384, 4000),
            (1 << 20, 4000),
            (999, 300_000),
        ] {
            let mut expected = responses.iter();
            for frame in read(&bytes, pieces, limit).unwrap() {
                let expected = expected.next().unwrap();
                match frame.decode::<WatchResponse>().unwrap() {
                    StreamItem::Message(message) => assert_eq!(&message, expected),
                    StreamItem::TooLarge { outline, bytes, .. } => {
                        assert_eq!(bytes, expected.encoded_len());
                        assert!(bytes > limit);
                        assert_eq!(outline, response(expected.watch_id, 0));
                    }
                }
            }
            assert!(
                expected.next().is_none(),
                "all of them, at {pieces} and {limit}"
            );
        }
    }

    #[test]
    fn a_message_that_announces_much_takes_no_more_memory_than_the_limit() {
        let mut messages = Messages::new(1 << 20);
        messages.push(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 0x10]));
        assert!(messages.next().unwrap().is_none());
        assert!(messages.buffer.capacity() < 100);
        messages.push(Bytes::from(vec![0x10; 1 << 16]));
        assert!(messages.next().is_err(), "numbers without end");
    }

    #[test]
    fn what_is_no_grpc_is_told() {
        let RpcError::Answer(answer) = read(b"<html>", 3, 100).unwrap_err() else {
            panic!("not an answer");
        };
        assert_eq!(answer.kind, ErrorKind::Protocol);
    }
}

//! A unary call on one connection, directly on `h2`: one message in each direction.
//!
//! tonic's client would cost a call a tenth of its time, for a polled body, a boxed future and layers
//! that only streams need.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use prost::Message;

use super::connect::connection::Connection;
use super::connect::open_stream::OpenStream;
use super::connect::store_identity::Consistency;
use super::grpc_status::{check, malformed, not_grpc};
use super::limits::too_large;
use super::message_splitter::{HEADER, announced};
use super::rpc_error::RpcError;
use crate::grpc::etcd_rs_proto::Unary;

/// An encoded request. It is encoded once, however often it is sent. It may contain a password and
/// has no `Debug` output.
#[derive(Clone)]
pub(crate) struct Framed<M> {
    pub(super) bytes: Bytes,
    needs_leader: bool,
    consistency: Consistency,
    message: PhantomData<M>,
}

impl<M: Unary> Framed<M> {
    /// Encodes a request that requires a member with a leader: a member without one rejects it at
    /// once instead of holding it until a timeout.
    pub(crate) fn new(message: &M) -> Self {
        let length = message.encoded_len();
        let mut bytes = BytesMut::with_capacity(HEADER + length);
        bytes.put_u8(0);
        // The send limit is below 4 GiB.
        bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        message.encode_raw(&mut bytes);
        Framed {
            bytes: bytes.freeze(),
            needs_leader: true,
            consistency: Consistency::Local,
            message: PhantomData,
        }
    }

    /// Sets whether the request requires a member with a leader.
    pub(crate) fn needs_leader(self, needs_leader: bool) -> Self {
        Framed {
            needs_leader,
            ..self
        }
    }

    /// Sets how recent the answer must be.
    pub(crate) fn consistency(self, consistency: Consistency) -> Self {
        Framed {
            consistency,
            ..self
        }
    }
}

impl Connection {
    /// Sends a request to its method and reads the reply.
    pub(crate) async fn unary<M: Unary>(self, request: Framed<M>) -> Result<M::Reply, RpcError> {
        let store = Arc::clone(&self.store);
        let known_when_sent = store.known();
        let reply = self.send_framed(M::PATH, request.bytes, request.needs_leader);
        let reply =
            M::Reply::decode(reply.await?).map_err(|error| malformed(&error.to_string()))?;
        if let Some(header) = M::header(&reply) {
            store.answered(header, request.consistency, known_when_sent);
        }
        Ok(reply)
    }

    async fn send_framed(
        self,
        path: &'static str,
        message: Bytes,
        needs_leader: bool,
    ) -> Result<Bytes, RpcError> {
        let open = OpenStream::new(&self);
        let ready = SendRequest::clone(&self.send).ready().await;
        let head = self.head(path, needs_leader);
        let sent = ready.and_then(|mut send| send.send_request(head, false));
        let (response, mut body) =
            sent.map_err(|error| RpcError::Connection(open.not_sent(&error)))?;
        // The error is that of the stream; its response reports it.
        let _ = body.send_data(message, true);
        let broken = |error: h2::Error| RpcError::Connection(open.explain(&error));
        let (head, mut body) = response.await.map_err(broken)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(not_grpc(head.status));
        }
        // A response with headers only is an error: a reply has a message.
        check(&head.headers)?;
        let mut reply = ReplyBuffer::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(broken)?;
            // It fails only on a closed stream, which the next step reports.
            let _ = body.flow_control().release_capacity(data.len());
            reply.push(&data, self.limits.receive)?;
        }
        match body.trailers().await.map_err(broken)? {
            Some(trailers) if check(&trailers)? => reply.message(),
            _ => Err(malformed("a reply without a gRPC status")),
        }
    }

    fn head(&self, path: &'static str, needs_leader: bool) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        // The origin is a complete URI; only the path is replaced.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if needs_leader {
            headers.insert("hasleader", HeaderValue::from_static("true"));
        }
        *request.headers_mut() = headers;
        self.attach_token(&mut request);
        request
    }
}

/// A reply with its header, as it arrives. It allocates at most the size of the message, and not
/// more than the limit for a header that announces more.
pub(super) struct ReplyBuffer(BytesMut);

impl ReplyBuffer {
    pub(super) fn new() -> Self {
        ReplyBuffer(BytesMut::new())
    }

    pub(super) fn push(&mut self, data: &[u8], limit: usize) -> Result<(), RpcError> {
        if self.0.is_empty()
            && let Some(length) = announced(data)?
        {
            self.0.reserve(HEADER + length.min(limit));
        }
        self.0.extend_from_slice(data);
        match announced(&self.0)? {
            Some(length) if length > limit => Err(RpcError::Status(too_large(length, limit))),
            Some(length) if self.0.len() > HEADER + length => Err(malformed(
                "more than one message in the reply to a unary call",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn message(mut self) -> Result<Bytes, RpcError> {
        match announced(&self.0)? {
            Some(length) if self.0.len() == HEADER + length => {
                self.0.advance(HEADER);
                Ok(self.0.freeze())
            }
            _ => Err(malformed("the reply ends inside its message")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn kind(error: RpcError) -> ErrorKind {
        match error {
            RpcError::Status(answer) => answer.kind,
            RpcError::Connection(error) => error.kind,
        }
    }

    /// Reads a reply that arrives in pieces of this size.
    fn read(bytes: &[u8], pieces: usize, limit: usize) -> Result<Bytes, RpcError> {
        let mut reply = ReplyBuffer::new();
        for piece in bytes.chunks(pieces) {
            reply.push(piece, limit)?;
        }
        reply.message()
    }

    #[test]
    fn a_reply_is_complete_for_any_size_of_pieces() {
        let reply = [0, 0, 0, 0, 6, b'a', b'b', b'c', b'd', b'e', b'f'];
        for pieces in 1..=reply.len() {
            assert_eq!(read(&reply, pieces, 6).unwrap(), "abcdef");
        }
        assert!(read(&[0; 5], 5, 6).unwrap().is_empty());
    }

    #[test]
    fn an_invalid_reply_is_an_error_for_any_size_of_pieces() {
        use ErrorKind::{Protocol, TooLarge};
        let cases: [(&[u8], ErrorKind); 7] = [
            (b"", Protocol),
            (&[0, 0, 0, 0], Protocol),
            (&[0, 0, 0, 0, 2, b'a'], Protocol),
            (&[0, 0, 0, 0, 1, b'a', b'b'], Protocol),
            (&[1, 0, 0, 0, 1, b'a'], Protocol),
            (b"<html></html>", Protocol),
            (&[0, 0, 0, 0, 7, b'a'], TooLarge),
        ];
        for (bytes, expected) in cases {
            for pieces in 1..=bytes.len().max(1) {
                assert_eq!(
                    kind(read(bytes, pieces, 6).unwrap_err()),
                    expected,
                    "{bytes:?}"
                );
            }
        }
    }

    #[test]
    fn a_reply_over_the_limit_is_refused_at_its_header() {
        let mut reply = ReplyBuffer::new();
        let head = [0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            kind(reply.push(&head, 1 << 20).unwrap_err()),
            ErrorKind::TooLarge
        );
        assert!(reply.0.capacity() <= HEADER + (1 << 20));
    }
}

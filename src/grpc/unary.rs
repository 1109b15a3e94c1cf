//! A unary method on a connection: one message there and one back, straight on `h2`.
//!
//! Calls are what a client does most, and the stubs' way costs each a tenth of its time: a body that is
//! polled, a boxed future, layers that only streams have a use for.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use prost::Message;
use tonic::{Code, Status};

use super::Connection;
use super::call::RpcError;
use super::connect::connection::Open;
use super::connect::store_identity::Consistency;
use crate::error::ServerError;
use crate::grpc::etcd_rs_proto::Unary;

/// What precedes a message: whether it is compressed, in one byte, and its length in four.
pub(super) const HEAD: usize = 5;

/// A request as it goes out; it is encoded once, however often it is sent. It may hold a password, and
/// does not print.
#[derive(Clone)]
pub(crate) struct Framed<M> {
    bytes: Bytes,
    needs_leader: bool,
    consistency: Consistency,
    message: PhantomData<M>,
}

impl<M: Unary> Framed<M> {
    /// For members that have a leader. Without one a member refuses it at once, and does not hold it
    /// until it times out.
    pub(crate) fn new(message: &M) -> Self {
        let length = message.encoded_len();
        let mut bytes = BytesMut::with_capacity(HEAD + length);
        bytes.put_u8(0);
        // No limit lets a message of 4 GiB through.
        bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        message.encode_raw(&mut bytes);
        Framed {
            bytes: bytes.freeze(),
            needs_leader: true,
            consistency: Consistency::Local,
            message: PhantomData,
        }
    }

    /// Whether it is for members that have a leader only.
    pub(crate) fn needs_leader(self, needs_leader: bool) -> Self {
        Framed {
            needs_leader,
            ..self
        }
    }

    /// How new its answer is bound to be.
    pub(crate) fn consistency(self, consistency: Consistency) -> Self {
        Framed {
            consistency,
            ..self
        }
    }
}

impl Connection {
    /// Sends a request to its method, and reads the reply.
    pub(crate) async fn ask<M: Unary>(self, request: Framed<M>) -> Result<M::Reply, RpcError> {
        let store = Arc::clone(&self.store);
        let asked = store.known();
        let reply = self.exchange(M::PATH, request.bytes, request.needs_leader);
        let reply =
            M::Reply::decode(reply.await?).map_err(|error| malformed(&error.to_string()))?;
        if let Some(header) = M::header(&reply) {
            store.answered(header, request.consistency, asked);
        }
        Ok(reply)
    }

    async fn exchange(
        self,
        path: &'static str,
        message: Bytes,
        needs_leader: bool,
    ) -> Result<Bytes, RpcError> {
        let open = Open::new(&self);
        let ready = SendRequest::clone(&self.send).ready().await;
        let head = self.head(path, needs_leader);
        let sent = ready.and_then(|mut send| send.send_request(head, false));
        let (response, mut body) =
            sent.map_err(|error| RpcError::ConnectError(open.not_sent(&error)))?;
        // An error here is the stream's, and its response says why.
        let _ = body.send_data(message, true);
        let broken = |error: h2::Error| RpcError::ConnectError(open.explain(&error));
        let (head, mut body) = response.await.map_err(broken)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(not_grpc(head.status));
        }
        // Headers alone are an error: there is no reply without a message.
        check(&head.headers)?;
        let mut reply = Incoming(BytesMut::new());
        while let Some(data) = body.data().await {
            let data = data.map_err(broken)?;
            // It fails only on a stream that is over, which the next step reports.
            let _ = body.flow_control().release_capacity(data.len());
            reply.push(&data, self.limits.receive)?;
        }
        match body.trailers().await.map_err(broken)? {
            Some(trailers) if check(&trailers)? => reply.message(),
            _ => Err(malformed("a reply without a gRPC status")),
        }
    }

    pub(super) fn head(&self, path: &'static str, needs_leader: bool) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        // An origin has all that a URI needs besides its path.
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

/// Whether there is a status, which is `Ok` then; another one is an error.
pub(super) fn check(headers: &HeaderMap) -> Result<bool, RpcError> {
    match headers.get(Status::GRPC_STATUS) {
        None => Ok(false),
        Some(status) if status == "0" => Ok(true),
        Some(_) => match Status::from_header_map(headers) {
            Some(status) if status.code() == Code::Ok => Ok(true),
            Some(status) => Err(RpcError::Answer(ServerError::read(
                status.code().into(),
                status.message(),
            ))),
            None => Ok(false),
        },
    }
}

/// The reply of something that is no gRPC server, or of a proxy that has none behind it.
#[cold]
pub(super) fn not_grpc(status: StatusCode) -> RpcError {
    let text = format!("HTTP {status}, and no gRPC status");
    match status.as_u16() {
        429 | 502 | 503 | 504 => {
            RpcError::Answer(ServerError::read(Code::Unavailable.into(), &text))
        }
        _ => malformed(&text),
    }
}

#[cold]
pub(super) fn malformed(text: &str) -> RpcError {
    RpcError::Answer(ServerError::malformed(text))
}

/// A reply as it comes in, with its head: as much memory as the message has bytes, and no more than
/// has come in of what announces itself as more than it is.
struct Incoming(BytesMut);

impl Incoming {
    fn push(&mut self, data: &[u8], limit: usize) -> Result<(), RpcError> {
        if self.0.is_empty()
            && let Some(length) = announced(data)?
        {
            self.0.reserve(HEAD + length.min(limit));
        }
        self.0.extend_from_slice(data);
        match announced(&self.0)? {
            Some(length) if length > limit => {
                Err(RpcError::Answer(ServerError::too_large(format!(
                    "the reply has {length} bytes and the limit is {limit} (ClientBuilder::receive_limit)"
                ))))
            }
            Some(length) if self.0.len() > HEAD + length => {
                Err(malformed("more than one message in reply to one"))
            }
            _ => Ok(()),
        }
    }

    fn message(mut self) -> Result<Bytes, RpcError> {
        match announced(&self.0)? {
            Some(length) if self.0.len() == HEAD + length => {
                self.0.advance(HEAD);
                Ok(self.0.freeze())
            }
            _ => Err(malformed("a reply that ends within its message")),
        }
    }
}

/// The length of the message that begins here, once its head is there.
pub(super) fn announced(data: &[u8]) -> Result<Option<usize>, RpcError> {
    let Some((head, _)) = data.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let [compressed, length @ ..] = *head;
    if compressed != 0 {
        return Err(malformed(
            "a message that says it is compressed, which none may be",
        ));
    }
    Ok(usize::try_from(u32::from_be_bytes(length)).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn kind(problem: RpcError) -> ErrorKind {
        match problem {
            RpcError::Answer(answer) => answer.kind,
            RpcError::ConnectError(fault) => fault.kind,
        }
    }

    /// A reply that comes in pieces of a size.
    fn read(bytes: &[u8], pieces: usize, limit: usize) -> Result<Bytes, RpcError> {
        let mut reply = Incoming(BytesMut::new());
        for piece in bytes.chunks(pieces) {
            reply.push(piece, limit)?;
        }
        reply.message()
    }

    #[test]
    fn a_reply_is_the_same_in_whatever_pieces_it_comes() {
        let reply = [0, 0, 0, 0, 6, b'a', b'b', b'c', b'd', b'e', b'f'];
        for pieces in 1..=reply.len() {
            assert_eq!(read(&reply, pieces, 6).unwrap(), "abcdef");
        }
        assert!(read(&[0; 5], 5, 6).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_reply_is_told_in_whatever_pieces_it_comes() {
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
    fn a_reply_that_announces_much_is_refused_at_its_head() {
        let mut reply = Incoming(BytesMut::new());
        let head = [0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            kind(reply.push(&head, 1 << 20).unwrap_err()),
            ErrorKind::TooLarge
        );
        assert!(reply.0.capacity() <= HEAD + (1 << 20));
    }

    #[test]
    fn a_proxy_without_a_server_is_unavailable_and_a_stranger_is_no_etcd() {
        for (status, expected) in [
            (429, ErrorKind::Unavailable),
            (502, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
            (504, ErrorKind::Unavailable),
            (400, ErrorKind::Protocol),
            (404, ErrorKind::Protocol),
            (500, ErrorKind::Protocol),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(kind(not_grpc(status)), expected, "{status}");
        }
    }
}

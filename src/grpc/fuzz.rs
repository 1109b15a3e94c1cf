//! Fuzz targets of replies, streams and statuses.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::grpc_status::{check, not_grpc};
use super::message_splitter::{HEADER, LargeMessage, MessagePart, MessageSplitter, announced};
use super::rpc_error::RpcError;
use super::unary::ReplyBuffer;
use crate::error::{ErrorKind, ServerError};
use crate::fuzz::input::Input;

/// The most bytes that are kept of a message over the limit.
const OUTLINE: usize = 1024;

/// Reads a reply in pieces. It does not depend on where the pieces end, and is never larger than the limit.
pub(crate) fn reply(data: &[u8]) {
    let mut data = Input::new(data);
    let (piece, limit) = (data.below(64) + 1, usize::from(data.short()));
    let bytes = data.rest();
    let whole = read_reply(bytes, bytes.len().max(1), limit);
    assert_eq!(read_reply(bytes, piece, limit), whole);
    if let Ok(message) = whole {
        assert!(message.len() <= limit);
        assert_eq!(message, bytes[HEADER..]);
    }
}

fn read_reply(bytes: &[u8], piece: usize, limit: usize) -> Result<Bytes, ErrorKind> {
    let mut reply = ReplyBuffer::new();
    for piece in bytes.chunks(piece) {
        reply.push(piece, limit).map_err(kind)?;
    }
    reply.message().map_err(kind)
}

fn kind(error: RpcError) -> ErrorKind {
    match error {
        RpcError::Status(answer) => {
            is_printable(&answer);
            answer.kind
        }
        RpcError::Connection(error) => panic!("{error} without a connection"),
    }
}

/// Splits a stream of messages in pieces. The messages do not depend on where the pieces end.
pub(crate) fn stream(data: &[u8]) {
    let mut data = Input::new(data);
    let (piece, limit) = (data.below(64) + 1, usize::from(data.short()));
    let bytes = data.rest();
    let whole = read_stream(bytes, bytes.len().max(1), limit);
    let pieces = read_stream(bytes, piece, limit);
    assert_eq!(pieces.1, whole.1);
    // The messages that arrived together with what is malformed are not read.
    let read = pieces.0.get(..whole.0.len());
    assert_eq!(read, Some(&whole.0[..]));
    assert!(whole.1 || pieces.0.len() == whole.0.len());
    // The lengths come from a small alphabet, so that there are messages over the limit.
    let mut framed = Vec::new();
    let mut rest = Input::new(bytes);
    while !rest.is_empty() {
        let message = rest.bytes(1 << 10);
        framed.push(0);
        framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend(message);
    }
    let whole = read_stream(&framed, framed.len().max(1), limit);
    assert_eq!(read_stream(&framed, piece, limit), whole);
}

/// A message as it leaves the splitter.
#[derive(Debug, PartialEq)]
enum Read {
    Small(Bytes),
    Large(Bytes),
    Oversized(Bytes, usize, usize),
}

/// The complete messages, and whether an error followed them.
fn read_stream(bytes: &[u8], piece: usize, limit: usize) -> (Vec<Read>, bool) {
    let mut splitter = MessageSplitter::new(limit);
    let (mut read, mut small) = (Vec::new(), BytesMut::new());
    for piece in bytes.chunks(piece) {
        let mut data = Bytes::copy_from_slice(piece);
        while !data.is_empty() {
            match splitter.split(&mut data) {
                Ok(MessagePart::Small(bytes)) => small.extend_from_slice(&bytes),
                Ok(MessagePart::Large { number, message }) => {
                    assert!(small.is_empty(), "a message inside another one");
                    assert_eq!(number, u64::try_from(read.len()).unwrap());
                    read.push(match message {
                        LargeMessage::Complete(bytes) => Read::Large(bytes),
                        LargeMessage::Oversized {
                            outline,
                            entries,
                            bytes,
                        } => {
                            assert!(outline.len() <= OUTLINE && bytes > limit);
                            Read::Oversized(outline, entries, bytes)
                        }
                    });
                }
                Err(error) => {
                    kind(error);
                    return (read, true);
                }
            }
            while let Ok(Some(length)) = announced(&small)
                && small.len() >= HEADER + length
            {
                assert!(length <= limit, "a small message over the limit");
                read.push(Read::Small(small.split_to(HEADER + length).freeze()));
            }
        }
    }
    let rest_is_part = small.is_empty() || splitter.is_inside_message();
    assert!(rest_is_part, "a part of a message is lost");
    (read, false)
}

/// Reads the status of a response: its code and its message, separated by a line break.
pub(crate) fn status(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        let value = parts.next().map(HeaderValue::from_bytes);
        if let Some(Ok(value)) = value {
            headers.insert(name, value);
        }
    }
    match check(&headers) {
        Ok(is_there) => assert_eq!(is_there, headers.contains_key("grpc-status")),
        Err(error) => {
            assert_ne!(headers.get("grpc-status").unwrap(), "0");
            kind(error);
        }
    }
    let code = data
        .iter()
        .take(2)
        .fold(0, |n, byte| n << 8 | u16::from(*byte));
    if let Ok(code) = StatusCode::from_u16(code % 1000) {
        kind(not_grpc(code));
    }
}

/// Checks that the text of an error can be printed, and is short.
fn is_printable(answer: &ServerError) {
    assert!(!answer.text.chars().any(char::is_control));
    assert!(answer.text.chars().count() <= 2048);
}

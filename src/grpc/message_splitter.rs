//! Finds the messages in the bytes of a response, and takes the large ones out. Pure.
//!
//! tonic reads the rest. It ends a stream at the first message over its limit, which would end all
//! watches that share the stream, and its buffer keeps the size of the largest message.

use bytes::{Buf, Bytes, BytesMut};

use super::grpc_status::malformed;
use super::oversized_message::OversizedScanner;
use super::rpc_error::RpcError;

/// The length of a message header: one byte for compression, four for the length.
pub(super) const HEADER: usize = 5;

/// A larger message is taken out and gets its own memory. Smaller messages share a buffer with their
/// neighbours, so a part of one that is kept retains a buffer of this size.
const LARGE: usize = 64 * 1024;

/// What the next received bytes are.
#[derive(Debug)]
pub(super) enum MessagePart {
    /// Bytes of small messages; possibly none.
    Small(Bytes),
    /// A large message is complete. Messages are numbered from 0.
    Large { number: u64, message: LargeMessage },
}

/// A message that tonic does not read.
#[derive(Debug)]
pub(super) enum LargeMessage {
    Complete(Bytes),
    /// A message over the client's limit: its fields without lists and strings, the number of
    /// skipped entries, and its size.
    Oversized {
        outline: Bytes,
        entries: usize,
        bytes: usize,
    },
}

/// Splits the bytes of a response.
#[derive(Debug)]
pub(super) struct MessageSplitter {
    limit: usize,
    /// The received part of a header.
    header: BytesMut,
    /// The remaining bytes of the current message.
    left: usize,
    large: Option<Receiving>,
    /// The number of the next message.
    next: u64,
}

/// A large message of which a part has arrived.
#[derive(Debug)]
enum Receiving {
    Kept(BytesMut),
    Skipped {
        bytes: usize,
        scanner: OversizedScanner,
    },
}

impl MessageSplitter {
    /// Creates a splitter for messages of at most `limit` bytes; the content of larger ones is not
    /// kept.
    pub(super) fn new(limit: usize) -> Self {
        MessageSplitter {
            limit,
            header: BytesMut::new(),
            left: 0,
            large: None,
            next: 0,
        }
    }

    /// Whether a part of a message has arrived.
    pub(super) fn is_inside_message(&self) -> bool {
        self.left > 0 || self.large.is_some() || !self.header.is_empty()
    }

    /// Takes the next part from the received bytes.
    pub(super) fn split(&mut self, data: &mut Bytes) -> Result<MessagePart, RpcError> {
        if let Some(large) = self.large.take() {
            return self.receive(large, data);
        }
        if !self.header.is_empty() {
            return self.split_header(data);
        }
        // The end of the small messages at the start of `data`.
        let mut end = 0;
        loop {
            let arrived = self.left.min(data.len() - end);
            end += arrived;
            self.left -= arrived;
            let rest = data.get(end..).unwrap_or_default();
            match announced(rest)? {
                Some(length) => {
                    self.begin(length);
                    if self.large.is_some() {
                        let small = data.split_to(end);
                        data.advance(HEADER);
                        return Ok(MessagePart::Small(small));
                    }
                    end += HEADER;
                }
                None => {
                    let small = data.split_to(end);
                    self.header.extend_from_slice(data);
                    data.clear();
                    return Ok(MessagePart::Small(small));
                }
            }
        }
    }

    /// Completes a header of which a part has arrived before.
    fn split_header(&mut self, data: &mut Bytes) -> Result<MessagePart, RpcError> {
        let missing = HEADER.saturating_sub(self.header.len()).min(data.len());
        self.header.extend_from_slice(&data.split_to(missing));
        let Some(length) = announced(&self.header)? else {
            return Ok(MessagePart::Small(Bytes::new()));
        };
        let header = std::mem::take(&mut self.header);
        self.begin(length);
        Ok(MessagePart::Small(match self.large {
            None => header.freeze(),
            Some(_) => Bytes::new(),
        }))
    }

    /// Begins a message of this length.
    fn begin(&mut self, length: usize) {
        self.next += 1;
        self.left = length;
        if length > self.limit {
            self.large = Some(Receiving::Skipped {
                bytes: length,
                scanner: OversizedScanner::default(),
            });
        } else if length > LARGE {
            self.large = Some(Receiving::Kept(BytesMut::with_capacity(length)));
        }
    }

    /// Takes the next bytes of a large message.
    fn receive(&mut self, mut large: Receiving, data: &mut Bytes) -> Result<MessagePart, RpcError> {
        let arrived = data.split_to(self.left.min(data.len()));
        self.left -= arrived.len();
        let invalid = |_| malformed("an oversized message is not valid protobuf");
        match &mut large {
            Receiving::Kept(buffer) => buffer.extend_from_slice(&arrived),
            Receiving::Skipped { scanner, .. } => scanner.push(&arrived).map_err(invalid)?,
        }
        if self.left > 0 {
            self.large = Some(large);
            return Ok(MessagePart::Small(Bytes::new()));
        }
        let message = match large {
            Receiving::Kept(buffer) => LargeMessage::Complete(buffer.freeze()),
            Receiving::Skipped { bytes, scanner } => {
                let (outline, entries) = scanner.finish().map_err(invalid)?;
                LargeMessage::Oversized {
                    outline,
                    entries,
                    bytes,
                }
            }
        };
        Ok(MessagePart::Large {
            number: self.next - 1,
            message,
        })
    }
}

/// The length of the message at the start of `data`, once its header is complete.
pub(super) fn announced(data: &[u8]) -> Result<Option<usize>, RpcError> {
    let Some((header, _)) = data.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let [compressed, length @ ..] = *header;
    if compressed != 0 {
        return Err(malformed(
            "a compressed message, although compression was not negotiated",
        ));
    }
    Ok(usize::try_from(u32::from_be_bytes(length)).ok())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

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

    /// A message as it leaves the splitter.
    #[derive(Debug, PartialEq)]
    enum Read {
        Small(WatchResponse),
        Large(WatchResponse),
        Oversized(WatchResponse, usize),
    }

    /// Splits bytes that arrive in pieces of this size, and decodes the messages in their order.
    fn read(bytes: &[u8], pieces: usize, limit: usize) -> Result<Vec<Read>, RpcError> {
        let mut splitter = MessageSplitter::new(limit);
        let (mut read, mut small) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(pieces) {
            let mut data = Bytes::copy_from_slice(piece);
            while !data.is_empty() {
                match splitter.split(&mut data)? {
                    MessagePart::Small(bytes) => small.extend_from_slice(&bytes),
                    MessagePart::Large { number, message } => {
                        assert!(small.is_empty(), "a message inside another one");
                        assert_eq!(number, read.len() as u64);
                        read.push(match message {
                            LargeMessage::Complete(bytes) => {
                                Read::Large(WatchResponse::decode(bytes).unwrap())
                            }
                            LargeMessage::Oversized { outline, bytes, .. } => {
                                Read::Oversized(WatchResponse::decode(outline).unwrap(), bytes)
                            }
                        });
                    }
                }
                while let Some(length) = announced(&small)?
                    && small.len() >= HEADER + length
                {
                    let rest = small.split_off(HEADER + length);
                    let message = WatchResponse::decode(&small[HEADER..]).unwrap();
                    read.push(Read::Small(message));
                    small = rest;
                }
                if let Some(Receiving::Kept(buffer)) = &splitter.large {
                    assert!(buffer.capacity() <= limit);
                }
            }
        }
        assert!(!splitter.is_inside_message());
        assert!(small.is_empty());
        Ok(read)
    }

    #[test]
    fn messages_are_complete_and_in_order_and_those_over_the_limit_are_outlined() {
        let sizes = [0, 10, 5000, 20, 700_000, 0, 5001, 3, 200_000, 65_000];
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
            (7, 300_000),
            (999, 300_000),
            (1 << 20, 300_000),
        ] {
            let expected = responses.iter().map(|response| {
                let length = response.encoded_len();
                match length {
                    _ if length > limit => {
                        let outline = WatchResponse {
                            cancel_reason: String::new(),
                            ..response.clone()
                        };
                        Read::Oversized(outline, length)
                    }
                    _ if length > LARGE => Read::Large(response.clone()),
                    _ => Read::Small(response.clone()),
                }
            });
            assert_eq!(
                read(&bytes, pieces, limit).unwrap(),
                expected.collect::<Vec<_>>(),
                "{pieces} {limit}"
            );
        }
    }

    #[test]
    fn a_header_with_a_large_length_allocates_no_memory() {
        let mut splitter = MessageSplitter::new(1 << 20);
        let mut data = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 0x10]);
        while !data.is_empty() {
            assert!(
                matches!(splitter.split(&mut data), Ok(MessagePart::Small(small)) if small.is_empty())
            );
        }
        assert!(matches!(splitter.large, Some(Receiving::Skipped { .. })));
        assert!(splitter.is_inside_message());
        let mut data = Bytes::from(vec![0x10; 1 << 16]);
        assert!(splitter.split(&mut data).is_err(), "numbers without end");
    }

    #[test]
    fn every_byte_of_a_message_but_the_last_one_leaves_it_open() {
        let messages = [response(1, 10), response(2, 2 * LARGE), response(3, 0)];
        for (limit, message) in messages.iter().flat_map(|m| [(1 << 20, m), (5, m)]) {
            let mut splitter = MessageSplitter::new(limit);
            assert!(!splitter.is_inside_message());
            let bytes = framed(message);
            for (n, byte) in bytes.iter().enumerate() {
                splitter
                    .split(&mut Bytes::copy_from_slice(&[*byte]))
                    .unwrap();
                let is_last = n + 1 == bytes.len();
                assert_eq!(splitter.is_inside_message(), !is_last, "{n}");
            }
        }
    }

    #[test]
    fn bytes_that_are_not_grpc_are_a_protocol_error() {
        for pieces in 1..6 {
            let RpcError::Status(answer) = read(b"<html>", pieces, 100).unwrap_err() else {
                panic!("not an answer");
            };
            assert_eq!(answer.kind, ErrorKind::Protocol);
        }
    }
}

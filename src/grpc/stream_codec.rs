//! The codec of streams for tonic: prost with small buffers.
//!
//! tonic allocates two buffers of 8 KiB for each stream. Most messages of etcd are smaller than 512
//! bytes, and a buffer grows for a larger one.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::etcd_rs_proto::Streaming;
use super::grpc_status::malformed;
use super::message_splitter::LargeMessage;
use super::received::Received;

/// The initial size of a buffer.
const BUFFER: usize = 512;

/// How many encoded bytes of a stream are sent together; tonic's default.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// A message of a stream.
#[derive(Debug)]
pub(crate) enum StreamItem<R> {
    Message(R),
    /// A message over the client's limit: its fields without lists and strings, the number of
    /// skipped entries, and its size.
    TooLarge {
        outline: R,
        entries: usize,
        bytes: usize,
    },
}

/// The codec of a stream that is opened with messages `M`.
#[derive(Debug)]
pub(super) struct StreamCodec<M> {
    received: Arc<Received>,
    /// How many messages were decoded.
    decoded: u64,
    message: PhantomData<M>,
}

impl<M> StreamCodec<M> {
    pub(super) fn new(received: Arc<Received>) -> Self {
        StreamCodec {
            received,
            decoded: 0,
            message: PhantomData,
        }
    }
}

impl<M: Streaming> Codec for StreamCodec<M> {
    type Encode = M;
    type Decode = StreamItem<M::Reply>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        StreamCodec::new(Arc::clone(&self.received))
    }

    fn decoder(&mut self) -> Self::Decoder {
        StreamCodec::new(Arc::clone(&self.received))
    }
}

impl<M: Streaming> Encoder for StreamCodec<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, message: M, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let encoded = message.encode(to);
        encoded.map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD_THRESHOLD)
    }
}

impl<M: Streaming> Decoder for StreamCodec<M> {
    type Item = StreamItem<M::Reply>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let number = self.decoded;
        self.decoded += 1;
        let item = match self.received.take_large(number) {
            None => decode(from.copy_to_bytes(from.remaining())).map(StreamItem::Message),
            Some(LargeMessage::Complete(bytes)) => decode(bytes).map(StreamItem::Message),
            Some(LargeMessage::Oversized {
                outline,
                entries,
                bytes,
            }) => decode(outline).map(|outline| StreamItem::TooLarge {
                outline,
                entries,
                bytes,
            }),
        };
        item.map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD_THRESHOLD)
    }
}

/// Decodes a message. The status of a failure has our error as its source.
fn decode<R: Message + Default>(bytes: Bytes) -> Result<R, Status> {
    R::decode(bytes).map_err(|error| Status::from_error(Box::new(malformed(&error.to_string()))))
}

//! The codec of the generated stubs: prost, with small buffers.
//!
//! tonic allocates two buffers of 8 KiB for each call. Most of etcd's messages are smaller than
//! 512 bytes, and a buffer grows when one is not.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec as GrpcCodec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The first size of a buffer.
const BUFFER: usize = 512;

/// So many encoded bytes of a stream are sent together: tonic's own number.
const TOGETHER: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Codec(PhantomData)
    }
}

impl<T, U> GrpcCodec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, TOGETHER))
    }
}

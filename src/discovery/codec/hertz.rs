//! The codec `Hertz`: the instances of hertz. Pure.

use bytes::Bytes;

use super::bad_value::BadValue;
use super::{Codec, kitex, path};
use crate::discovery::instance::Instance;

/// The format of hertz (`registry/etcd`): the values of [`Kitex`](super::Kitex) below other keys.
///
/// The key is `hertz/registry-etcd/web/10.0.0.5:8080`; the library has no other prefix.
///
/// ```
/// use etcd_blocking::Instance;
/// use etcd_blocking::codec::{Codec, Hertz};
///
/// let web = Instance::new("web", "10.0.0.5:8080");
/// assert_eq!(
///     Hertz.key(Hertz.default_prefix(), &web)?,
///     "hertz/registry-etcd/web/10.0.0.5:8080"
/// );
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Hertz;

const NAME: &str = "hertz";

impl Codec for Hertz {
    fn name(&self) -> &str {
        NAME
    }

    fn default_prefix(&self) -> &str {
        "hertz/registry-etcd/"
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        Ok(path::key(prefix, &instance.service, &instance.addr).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        Ok(kitex::encode(NAME, instance))
    }

    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let (service, id) = path::split(prefix, key)?;
        kitex::decode(NAME, service, id, value).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::codec::golden;

    #[test]
    fn values_of_hertz_are_read_and_written_byte_for_byte() {
        let read = golden::assert_same_bytes(Hertz, include_str!("golden/hertz.txt"));
        assert_eq!(read[0], Instance::new("web", "10.0.0.1:8080").weight(10));
        assert_eq!(read[1].zone, "eu");
    }
}

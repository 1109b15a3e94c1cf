//! The codec `GoZero`: the addresses of go-zero. Pure.

use bytes::Bytes;

use super::Codec;
use super::bad_value::BadValue;
use super::path;
use crate::discovery::instance::Instance;

/// The format of go-zero (`core/discov`), whose servers register under `Key` and whose clients read it.
///
/// The key `web/7587878` has the value `10.0.0.5:8080`. go-zero uses the id of the lease as the last part, or
/// the number of `WithId`; this codec writes the id of the instance. A `Key` of several parts, such as
/// `apps/web.rpc`, is the prefix `apps/` and the service `web.rpc`.
///
/// There is nothing but the id and the address. An instance that takes no calls has no key.
///
/// ```
/// use etcd_blocking::Instance;
/// use etcd_blocking::codec::{Codec, GoZero};
///
/// let web = Instance::new("web.rpc", "10.0.0.5:8080").id("web-1");
/// assert_eq!(GoZero.key("", &web)?, "web.rpc/web-1");
/// assert_eq!(GoZero.encode(&web)?.unwrap(), "10.0.0.5:8080");
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct GoZero;

impl Codec for GoZero {
    fn name(&self) -> &str {
        "go-zero"
    }

    fn default_prefix(&self) -> &str {
        ""
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        Ok(path::key(prefix, &instance.service, &instance.id).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        let value = || Bytes::copy_from_slice(instance.addr.as_bytes());
        Ok(instance.is_pickable().then(value))
    }

    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let (service, id) = path::split(prefix, key)?;
        let addr = std::str::from_utf8(value).map_err(|_| BadValue::new("it is not UTF-8"))?;
        Ok(Some(Instance::new(service, addr).id(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::codec::golden::{self, assert_reasons};
    use crate::discovery::status::Status;

    const GOLDEN: &str = include_str!("golden/go-zero.txt");

    #[test]
    fn values_of_go_zero_are_read_and_written_byte_for_byte() {
        let read = golden::assert_same_bytes(GoZero, GOLDEN);
        let web = Instance::new("web", "10.0.0.1:8080");
        assert_eq!(read, [web.id("7587899249195496461")]);
    }

    #[test]
    fn an_instance_that_takes_no_calls_has_no_value() {
        let web = Instance::new("web", "a:1");
        assert_eq!(GoZero.encode(&web.clone().weight(0)).unwrap(), None);
        assert_eq!(GoZero.encode(&web.status(Status::Starting)).unwrap(), None);
    }

    #[test]
    fn malformed_values_have_a_reason_without_the_value() {
        let bad = [
            ("", "host:port"),
            ("secret", "host:port"),
            ("http://secret:1", "host:port"),
        ];
        assert_reasons(GoZero, "web/1", &bad);
        assert!(GoZero.decode("", b"web/1", b"\xff:1").is_err());
        assert!(GoZero.decode("", b"web", b"a:1").is_err());
    }
}

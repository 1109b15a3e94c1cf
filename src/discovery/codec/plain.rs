//! The codec `Plain`: the value is the address. Pure.

use bytes::Bytes;

use super::Codec;
use super::bad_value::BadValue;
use super::path;
use crate::discovery::instance::Instance;

/// The value is the address and nothing else.
///
/// It is compatible with Go programs that follow the common tutorials: the key `/web/10.0.0.5:8080` has the
/// value `10.0.0.5:8080`. It stores no id, weight or metadata: an instance that is read has the last part
/// of its key as its id, and otherwise the defaults of [`Instance::new`]. It stores no status: an instance
/// that takes no calls has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Plain;

impl Codec for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn default_prefix(&self) -> &str {
        "/"
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        Ok(path::key(prefix, &instance.service, &instance.addr).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        let value = || Bytes::copy_from_slice(instance.addr.as_bytes());
        Ok(instance.is_pickable().then(value))
    }

    /// Decodes an instance. Its address is the value, not the last part of the key, because some programs
    /// use a lease id there.
    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let (service, last) = path::split(prefix, key)?;
        let addr = std::str::from_utf8(value).map_err(|_| BadValue::new("it is not UTF-8"))?;
        Ok(Some(Instance::new(service, addr).id(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::codec::Format;

    #[test]
    fn plain_keys_and_values_are_those_of_the_go_program() {
        let web = Instance::new("web", "127.0.0.1:8080")
            .id("ignored")
            .weight(9);
        let plain = Format::new(Plain);
        assert_eq!(plain.key(&web).unwrap(), "/web/127.0.0.1:8080");
        assert_eq!(plain.encode(&web).unwrap().unwrap(), "127.0.0.1:8080");
        assert_eq!(plain.range("web").start(), "/web/");
        assert_eq!(plain.encode(&web.weight(0)).unwrap(), None);
    }

    #[test]
    fn plain_values_of_go_programs_are_decoded_with_defaults() {
        let read = Format::new(Plain).decode(b"/web/localhost:8000", b"localhost:8000");
        assert_eq!(read, Ok(Some(Instance::new("web", "localhost:8000"))));
        let named = Format::new(Plain).decode(b"/web/7587862094", b"localhost:8000");
        assert_eq!(
            named,
            Ok(Some(
                Instance::new("web", "localhost:8000").id("7587862094")
            ))
        );
    }

    #[test]
    fn a_plain_value_that_is_not_an_address_is_malformed() {
        for value in [
            b"".as_slice(),
            b"web",
            b"\xff\xfe:80",
            b"{\"addr\":\"a:1\"}",
        ] {
            assert!(Format::new(Plain).decode(b"/web/a:1", value).is_err());
        }
    }
}

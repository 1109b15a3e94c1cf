//! The codec `Plain`: the value is the address. Pure.

use bytes::Bytes;

use super::bad_value::BadValue;
use crate::discovery::instance::Instance;

pub(super) fn encode(instance: &Instance) -> Bytes {
    Bytes::copy_from_slice(instance.addr.as_bytes())
}

/// Decodes an instance. Its address is the value, not the last part of the key, because some programs
/// use a lease id there.
pub(super) fn decode(service: &str, last: &str, value: &[u8]) -> Result<Instance, BadValue> {
    let addr = std::str::from_utf8(value).map_err(|_| BadValue::new("it is not UTF-8"))?;
    Ok(Instance::new(service, addr).id(last))
}

#[cfg(test)]
mod tests {
    use crate::discovery::{Codec, Instance};

    #[test]
    fn plain_keys_and_values_are_those_of_the_go_program() {
        let web = Instance::new("web", "127.0.0.1:8080")
            .id("ignored")
            .weight(9);
        let prefix = Codec::Plain.default_prefix();
        assert_eq!(Codec::Plain.key(prefix, &web), "/web/127.0.0.1:8080");
        assert_eq!(Codec::Plain.encode(&web, 7), "127.0.0.1:8080");
        assert_eq!(Codec::Plain.range(prefix, "web").start(), "/web/");
    }

    #[test]
    fn plain_values_of_go_programs_are_decoded_with_defaults() {
        let read = Codec::Plain.decode("/", b"/web/localhost:8000", b"localhost:8000");
        assert_eq!(read, Ok(Instance::new("web", "localhost:8000")));
        let named = Codec::Plain.decode("/", b"/web/7587862094", b"localhost:8000");
        assert_eq!(
            named,
            Ok(Instance::new("web", "localhost:8000").id("7587862094"))
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
            assert!(Codec::Plain.decode("/", b"/web/a:1", value).is_err());
        }
    }
}

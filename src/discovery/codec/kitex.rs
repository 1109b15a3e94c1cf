//! The codec `Kitex`: the instances of kitex. Pure.

use std::net::Ipv6Addr;

use bytes::Bytes;

use super::Codec;
use super::bad_value::BadValue;
use super::fields::{Fields, ObjectWriter, object_or_null};
use super::path;
use super::properties::{Property, from_metadata, to_metadata};
use crate::discovery::instance::{Extra, Instance};

/// The format of kitex (`registry-etcd`).
///
/// The key `kitex/registry-etcd/web/10.0.0.5:8080` has the value
/// `{"network":"tcp","address":"10.0.0.5:8080","weight":10,"tags":null}`. The address is the id. kitex registers
/// with the weight 10 unless told otherwise, and reads 0 or less as 10.
///
/// The metadata is `tags`, together with the entries `version` and `zone`. Tags and endpoints are not stored.
/// An instance that takes no calls has no key.
///
/// ```
/// use etcd_blocking::Instance;
/// use etcd_blocking::codec::{Codec, Kitex};
///
/// let web = Instance::new("web", "10.0.0.5:8080").weight(10).meta("cluster", "blue");
/// assert_eq!(
///     Kitex.encode(&web)?.unwrap(),
///     r#"{"network":"tcp","address":"10.0.0.5:8080","weight":10,"tags":{"cluster":"blue"}}"#
/// );
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Kitex;

const NAME: &str = "kitex";

/// What both libraries of the family assume without a weight.
const DEFAULT_WEIGHT: u32 = 10;

const PROPERTIES: [Property; 2] = [Property::Version, Property::Zone];

impl Codec for Kitex {
    fn name(&self) -> &str {
        NAME
    }

    fn default_prefix(&self) -> &str {
        "kitex/registry-etcd/"
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        Ok(path::key(prefix, &instance.service, &instance.addr).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        Ok(encode(NAME, instance))
    }

    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let (service, id) = path::split(prefix, key)?;
        decode(NAME, service, id, value).map(Some)
    }
}

/// Encodes an instance for kitex or hertz, which have the same values.
pub(super) fn encode(format: &'static str, instance: &Instance) -> Option<Bytes> {
    if !instance.is_pickable() {
        return None;
    }
    let mut extra = instance.extra.of(format);
    let network = extra.remove("network").unwrap_or_else(|| "tcp".into());
    let value = ObjectWriter::default()
        .field("network", network)
        .field("address", instance.addr.as_str())
        .field("weight", instance.weight)
        .field("tags", object_or_null(&to_metadata(instance, &PROPERTIES)))
        .rest(extra);
    Some(value.end())
}

pub(super) fn decode(
    format: &'static str,
    service: &str,
    id: &str,
    value: &[u8],
) -> Result<Instance, BadValue> {
    let mut fields = Fields::parse_go(value)?;
    let network = fields.text("network")?.unwrap_or_else(|| "tcp".to_owned());
    if !matches!(network.as_str(), "tcp" | "tcp4" | "tcp6") {
        return Err(BadValue::new("its \"network\" is not tcp"));
    }
    let addr = fields.text("address")?;
    let addr = addr.ok_or_else(|| BadValue::new("it has no \"address\""))?;
    let mut instance = Instance::new(service, bracketed(addr)).id(bracketed(id.to_owned()));
    instance.weight = fields.weight("weight", DEFAULT_WEIGHT)?;
    from_metadata(&mut instance, &PROPERTIES, fields.entries("tags")?);
    let mut extra = fields.rest();
    if network != "tcp" {
        extra.insert("network".to_owned(), network.into());
    }
    instance.extra = Extra::new(format, extra);
    Ok(instance)
}

/// Adds the brackets that kitex omits around an IPv6 address.
fn bracketed(addr: String) -> String {
    match addr.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => format!("[{host}]:{port}"),
        _ => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::codec::Hertz;
    use crate::discovery::codec::golden::{self, assert_reasons};
    use crate::discovery::status::Status;

    const GOLDEN: &str = include_str!("golden/kitex.txt");

    fn read(value: &str) -> Instance {
        let key = b"kitex/registry-etcd/web/a:1";
        let read = Kitex.decode("kitex/registry-etcd", key, value.as_bytes());
        read.unwrap().unwrap()
    }

    #[test]
    fn values_of_kitex_are_read_and_written_byte_for_byte() {
        let read = golden::assert_same_bytes(Kitex, GOLDEN);
        let web = Instance::new("web", "10.0.0.1:8080");
        assert_eq!(read[0], web.clone().weight(10));
        let full = web.weight(40).version("v2").zone("eu").meta("team", "core");
        assert_eq!(read[1], full);
    }

    #[test]
    fn an_instance_that_takes_no_calls_has_no_value() {
        let web = Instance::new("web", "a:1");
        assert_eq!(Kitex.encode(&web.clone().weight(0)).unwrap(), None);
        assert_eq!(
            Kitex.encode(&web.status(Status::OutOfService)).unwrap(),
            None
        );
    }

    #[test]
    fn weights_of_0_or_less_are_the_default_of_kitex() {
        for weight in ["0", "-3", "null"] {
            let value = format!(r#"{{"address":"a:1","weight":{weight}}}"#);
            assert_eq!(read(&value).weight, 10);
        }
        assert_eq!(read(r#"{"address":"a:1"}"#).weight, 10);
    }

    #[test]
    fn unknown_fields_are_preserved_for_the_same_format_only() {
        let value = r#"{"network":"tcp4","address":"a:1","weight":1,"tags":null,"lane":{"a":1}}"#;
        let read = read(value);
        assert_eq!(Kitex.encode(&read).unwrap().unwrap(), value);
        let hertz = Hertz.encode(&read).unwrap().unwrap();
        assert_eq!(
            hertz,
            r#"{"network":"tcp","address":"a:1","weight":1,"tags":null}"#
        );
    }

    #[test]
    fn an_ipv6_address_without_brackets_is_read() {
        let read = Kitex.decode("", b"web/fe80::1:80", br#"{"address":"fe80::1:80"}"#);
        let web = Instance::new("web", "[fe80::1]:80").weight(10);
        assert_eq!(read.unwrap(), Some(web));
    }

    #[test]
    fn malformed_values_have_a_reason_without_the_value() {
        let bad = [
            ("secret", "not JSON"),
            (r#"{"network":"tcp"}"#, "no \"address\""),
            (r#"{"network":"unix","address":"/secret"}"#, "not tcp"),
            (r#"{"address":7}"#, "\"address\""),
            (r#"{"address":"secret"}"#, "host:port"),
            (r#"{"address":"a:1","weight":"secret"}"#, "\"weight\""),
            (r#"{"address":"a:1","tags":{"secret":1}}"#, "\"tags\""),
            (r#"{"address":"a:1","tags":["secret"]}"#, "\"tags\""),
        ];
        assert_reasons(Kitex, "kitex/registry-etcd/web/a:1", &bad);
    }
}

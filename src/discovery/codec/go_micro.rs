//! The codec `GoMicro`: the nodes of go-micro. Pure.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Codec;
use super::bad_value::BadValue;
use super::fields::{Fields, ObjectWriter, object_or_null, wrong};
use super::path;
use super::properties::{Property, from_metadata, to_metadata};
use crate::discovery::instance::{Extra, Instance};

/// The format of go-micro (`registry/etcd`).
///
/// The key `/micro/registry/web/ID` has a service with one node as its value: `{"name":"web","version":"latest",`
/// `"metadata":null,"endpoints":null,"nodes":[{"metadata":null,"id":"ID","address":"10.0.0.5:8080"}]}`.
///
/// The metadata is that of the node, together with the entries `weight` (unless it is 1) and `zone`. The metadata
/// and the endpoints of the service, which describe its methods, are preserved. Tags and
/// [`Instance::endpoints`] are not stored. An instance that takes no calls has no key.
///
/// ```
/// use etcd_blocking::Instance;
/// use etcd_blocking::codec::{Codec, GoMicro};
///
/// let web = Instance::new("web", "10.0.0.5:8080").id("web-1").version("latest");
/// assert_eq!(GoMicro.key(GoMicro.default_prefix(), &web)?, "/micro/registry/web/web-1");
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct GoMicro;

const NAME: &str = "go-micro";

const PROPERTIES: [Property; 2] = [Property::Weight { default: 1 }, Property::Zone];

impl Codec for GoMicro {
    fn name(&self) -> &str {
        NAME
    }

    fn default_prefix(&self) -> &str {
        "/micro/registry/"
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        Ok(path::key(prefix, &instance.service, &instance.id).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        if !instance.is_pickable() {
            return Ok(None);
        }
        let mut extra = instance.extra.of(NAME);
        let mut kept = |name| extra.remove(name).unwrap_or_default();
        let (metadata, endpoints) = (kept("metadata"), kept("endpoints"));
        let node = ObjectWriter::default()
            .field(
                "metadata",
                object_or_null(&to_metadata(instance, &PROPERTIES)),
            )
            .field("id", instance.id.as_str())
            .field("address", instance.addr.as_str());
        let value = ObjectWriter::default()
            .field("name", instance.service.as_str())
            .field("version", instance.version.as_str())
            .field("metadata", metadata)
            .field("endpoints", endpoints)
            .list("nodes", [node])
            .rest(extra);
        Ok(Some(value.end()))
    }

    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let (service, id) = path::split(prefix, key)?;
        let mut fields = Fields::parse_go(value)?;
        // go-micro writes "-" for "/" in keys, and not in values.
        let name = fields.text("name")?;
        if name.is_none_or(|name| name.replace('/', "-") != service) {
            return Err(BadValue::new("its \"name\" is not the service in its key"));
        }
        let mut node = node(&mut fields, id)?;
        let addr = node.text("address")?;
        let addr = addr.ok_or_else(|| BadValue::new("its node has no \"address\""))?;
        let mut instance = Instance::new(service, addr).id(id);
        instance.version = fields.text("version")?.unwrap_or_default();
        from_metadata(&mut instance, &PROPERTIES, node.entries("metadata")?);
        // The service's own metadata and endpoints are among the rest.
        let mut rest = fields.rest();
        rest.retain(|_, value| !value.is_null());
        instance.extra = Extra::new(NAME, rest);
        Ok(Some(instance))
    }
}

/// The node whose id is in the key.
fn node(fields: &mut Fields, id: &str) -> Result<Fields, BadValue> {
    let nodes = match fields.take("nodes") {
        Some(Value::Array(nodes)) => nodes,
        Some(_) => return Err(wrong("nodes", "a list")),
        None => Vec::new(),
    };
    let has_id = |node: &Map<String, Value>| {
        let written = node.get("id").and_then(Value::as_str);
        written.is_some_and(|written| written.replace('/', "-") == id)
    };
    let objects = nodes.into_iter().filter_map(|node| match node {
        Value::Object(node) => Some(node),
        _ => None,
    });
    let found = objects.into_iter().find(has_id).map(Fields::go);
    found.ok_or_else(|| BadValue::new("it has no node with the id in its key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::codec::golden::{self, assert_reasons};
    use crate::discovery::status::Status;

    const GOLDEN: &str = include_str!("golden/go-micro.txt");

    #[test]
    fn values_of_go_micro_are_read_and_written() {
        let read = golden::assert_same_json(GoMicro, GOLDEN);
        let web = Instance::new("web", "10.0.0.1:8080").id("web-10.0.0.1:8080");
        assert_eq!(read[0], web.version("latest"));
        let [_, full] = read.as_slice() else { panic!() };
        let properties = (full.version.as_str(), full.weight, full.zone.as_str());
        assert_eq!(properties, ("v2", 40, "eu"));
        assert_eq!(full.meta["protocol"], "grpc");
    }

    #[test]
    fn a_value_without_methods_is_written_byte_for_byte() {
        let (_, value) = golden::records(GOLDEN)[0];
        let web = Instance::new("web", "10.0.0.1:8080").id("web-10.0.0.1:8080");
        let written = GoMicro.encode(&web.version("latest")).unwrap();
        assert_eq!(written.unwrap(), value);
    }

    #[test]
    fn an_instance_that_takes_no_calls_has_no_value() {
        let web = Instance::new("web", "a:1");
        assert_eq!(GoMicro.encode(&web.clone().weight(0)).unwrap(), None);
        assert_eq!(GoMicro.encode(&web.status(Status::Draining)).unwrap(), None);
    }

    #[test]
    fn slashes_of_names_and_ids_are_dashes_in_keys() {
        let value = br#"{"name":"a/b","nodes":[{"id":"x"},{"id":"n/1","address":"a:1"}]}"#;
        let read = GoMicro.decode("", b"a-b/n-1", value).unwrap();
        assert_eq!(read, Some(Instance::new("a-b", "a:1").id("n-1")));
    }

    #[test]
    fn unknown_fields_are_preserved() {
        let value = concat!(
            r#"{"name":"web","version":"","metadata":{"a":"b"},"endpoints":[],"#,
            r#""nodes":[{"metadata":null,"id":"w1","address":"a:1"}],"lane":1}"#
        );
        let read = GoMicro.decode("", b"web/w1", value.as_bytes()).unwrap();
        let written = GoMicro.encode(&read.unwrap()).unwrap();
        assert_eq!(written.unwrap(), value);
    }

    #[test]
    fn malformed_values_have_a_reason_without_the_value() {
        let bad = [
            ("secret", "not JSON"),
            (r#"{"name":"secret"}"#, "\"name\""),
            (r#"{"name":"web"}"#, "no node"),
            (r#"{"name":"web","nodes":"secret"}"#, "\"nodes\""),
            (r#"{"name":"web","nodes":["secret"]}"#, "no node"),
            (
                r#"{"name":"web","nodes":[{"id":"secret","address":"a:1"}]}"#,
                "no node",
            ),
            (r#"{"name":"web","nodes":[{"id":"w1"}]}"#, "no \"address\""),
            (
                r#"{"name":"web","nodes":[{"id":"w1","address":"secret"}]}"#,
                "host:port",
            ),
            (
                r#"{"name":"web","nodes":[{"id":"w1","address":"a:1","metadata":7}]}"#,
                "\"metadata\"",
            ),
            (
                r#"{"name":"web","version":[],"nodes":[{"id":"w1","address":"a:1"}]}"#,
                "\"version\"",
            ),
        ];
        assert_reasons(GoMicro, "/micro/registry/web/w1", &bad);
    }
}

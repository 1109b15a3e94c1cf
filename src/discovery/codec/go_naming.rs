//! The codec `GoNaming`: the endpoints of etcd's Go client. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Codec;
use super::bad_value::BadValue;
use super::fields::{Fields, ObjectWriter, object, text};
use super::path;
use crate::discovery::instance::{Extra, Instance};

/// The format of `naming/endpoints` in etcd's Go client, which gRPC-Go programs resolve by `etcd:///service`.
///
/// The key `web/10.0.0.5:8080` has the value `{"Op":0,"Addr":"10.0.0.5:8080","Metadata":null}`. The last part
/// of the key is the id. A target of several parts, such as `etcd:///apps/web`, is the prefix `apps/` and
/// the service `web`.
///
/// The version, the weight (unless it is 1), the zone, the tags, the metadata and the endpoints are members of
/// `Metadata`, which Go programs pass on or ignore. There is no status: an instance that takes no calls has
/// no key.
///
/// ```
/// use etcd_blocking::Instance;
/// use etcd_blocking::codec::{Codec, GoNaming};
///
/// let web = Instance::new("web", "10.0.0.5:8080");
/// assert_eq!(GoNaming.key("", &web)?, "web/10.0.0.5:8080");
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct GoNaming;

const NAME: &str = "go-naming";

impl Codec for GoNaming {
    fn name(&self) -> &str {
        NAME
    }

    fn default_prefix(&self) -> &str {
        ""
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        Ok(path::key(prefix, &instance.service, &instance.id).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        if !instance.is_pickable() {
            return Ok(None);
        }
        let mut extra = instance.extra.of(NAME);
        let metadata = metadata(instance, extra.remove("Metadata"));
        let value = ObjectWriter::default()
            .field("Op", 0)
            .field("Addr", instance.addr.as_str())
            .field("Metadata", metadata)
            .rest(extra);
        Ok(Some(value.end()))
    }

    /// Decodes an instance. An id may contain `/` in this format, which becomes `%2F`.
    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let (service, id) = path::split_deep(prefix, key)?;
        let mut fields = Fields::parse_go(value)?;
        match fields.number("Op")? {
            None | Some(0) => {}
            Some(_) => {
                return Err(BadValue::new(
                    "its \"Op\" is a deletion, which is never stored",
                ));
            }
        }
        let addr = fields.text("Addr")?;
        let addr = addr.ok_or_else(|| BadValue::new("it has no \"Addr\""))?;
        let mut instance = Instance::new(service, addr).id(id.replace('/', "%2F"));
        let metadata = match fields.take("Metadata") {
            None => None,
            Some(Value::Object(members)) => read_metadata(&mut instance, members),
            // Any JSON is valid here.
            Some(other) => Some(other),
        };
        let mut extra = fields.rest();
        if let Some(metadata) = metadata {
            extra.insert("Metadata".to_owned(), metadata);
        }
        instance.extra = Extra::new(NAME, extra);
        Ok(Some(instance))
    }
}

/// The members of `Metadata`, sorted as Go sorts the keys of a map.
fn metadata(instance: &Instance, unknown: Option<Value>) -> Value {
    let mut members: BTreeMap<String, Value> = BTreeMap::new();
    let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);
    for (name, value) in &instance.meta {
        set(name, value.as_str().into());
    }
    if !instance.version.is_empty() {
        set("version", instance.version.as_str().into());
    }
    if instance.weight != 1 {
        set("weight", instance.weight.into());
    }
    if !instance.zone.is_empty() {
        set("zone", instance.zone.as_str().into());
    }
    if !instance.tags.is_empty() {
        set("tags", instance.tags.clone().into());
    }
    if !instance.endpoints.is_empty() {
        set("endpoints", object(&instance.endpoints));
    }
    match unknown {
        Some(Value::Object(unknown)) => members.extend(unknown),
        // Metadata that is no object has no place for ours.
        Some(other) => return other,
        None => {}
    }
    if members.is_empty() {
        return Value::Null;
    }
    Value::Object(members.into_iter().collect())
}

/// Reads the members that are properties, and returns the others.
fn read_metadata(instance: &mut Instance, members: Map<String, Value>) -> Option<Value> {
    let mut unknown = Map::new();
    for (name, value) in members {
        if let Err(value) = set_property(instance, &name, value) {
            unknown.insert(name, value);
        }
    }
    (!unknown.is_empty()).then_some(Value::Object(unknown))
}

/// Sets the property of a member, or returns the value of a member that is none.
fn set_property(instance: &mut Instance, name: &str, value: Value) -> Result<(), Value> {
    match (name, value) {
        ("version", Value::String(version)) => instance.version = version,
        ("zone", Value::String(zone)) => instance.zone = zone,
        ("weight", Value::Number(weight)) => match weight.as_u64().map(u32::try_from) {
            Some(Ok(weight)) => instance.weight = weight,
            _ => return Err(Value::Number(weight)),
        },
        ("tags", Value::Array(tags)) if tags.iter().all(Value::is_string) => {
            instance.tags = tags.into_iter().filter_map(text).collect();
        }
        ("endpoints", Value::Object(all)) if all.values().all(Value::is_string) => {
            let all = all.into_iter();
            let texts = all.filter_map(|(name, uri)| Some((name, text(uri)?)));
            instance.endpoints = texts.collect();
        }
        (_, Value::String(text)) => drop(instance.meta.insert(name.to_owned(), text)),
        (_, other) => return Err(other),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::codec::golden::{self, assert_reasons};
    use crate::discovery::status::Status;

    const GOLDEN: &str = include_str!("golden/go-naming.txt");

    fn read(value: &str) -> Instance {
        let read = GoNaming.decode("", b"web/a:1", value.as_bytes());
        read.unwrap().unwrap()
    }

    fn written(instance: &Instance) -> Bytes {
        GoNaming.encode(instance).unwrap().unwrap()
    }

    #[test]
    fn values_of_the_go_client_are_read_and_written_byte_for_byte() {
        let read = golden::assert_same_bytes(GoNaming, GOLDEN);
        assert_eq!(read[0], Instance::new("web", "10.0.0.1:8080"));
        assert_eq!(read[1].version, "v2");
    }

    #[test]
    fn every_property_is_a_member_of_the_metadata() {
        let web = Instance::new("web", "a:1")
            .version("2")
            .weight(3)
            .zone("eu")
            .tag("x")
            .meta("team", "core")
            .endpoint("admin", "http://a:2");
        let value = concat!(
            r#"{"Op":0,"Addr":"a:1","Metadata":{"endpoints":{"admin":"http://a:2"},"tags":["x"],"#,
            r#""team":"core","version":"2","weight":3,"zone":"eu"}}"#
        );
        assert_eq!(written(&web), value);
        assert_eq!(read(value), web);
    }

    #[test]
    fn an_instance_that_takes_no_calls_has_no_value() {
        let web = Instance::new("web", "a:1");
        assert_eq!(GoNaming.encode(&web.clone().weight(0)).unwrap(), None);
        assert_eq!(
            GoNaming.encode(&web.status(Status::Draining)).unwrap(),
            None
        );
    }

    #[test]
    fn unknown_members_and_fields_are_preserved() {
        for value in [
            r#"{"Op":0,"Addr":"a:1","Metadata":{"a":[1],"k":"v","weight":-1},"ServerName":"x"}"#,
            r#"{"Op":0,"Addr":"a:1","Metadata":["any"]}"#,
            r#"{"Op":0,"Addr":"a:1","Metadata":"text"}"#,
        ] {
            assert_eq!(written(&read(value)), value);
        }
    }

    #[test]
    fn ids_may_have_slashes_and_field_names_any_case() {
        let read = GoNaming.decode("apps", b"apps/web/node/1", br#"{"addr":"a:1"}"#);
        assert_eq!(
            read.unwrap(),
            Some(Instance::new("web", "a:1").id("node%2F1"))
        );
    }

    #[test]
    fn malformed_values_have_a_reason_without_the_value() {
        let bad = [
            ("secret", "not JSON"),
            ("[]", "not an object"),
            (r#"{"Op":0,"Metadata":"secret"}"#, "no \"Addr\""),
            (r#"{"Op":1,"Addr":"secret:1"}"#, "deletion"),
            (r#"{"Op":"secret","Addr":"a:1"}"#, "\"Op\""),
            (r#"{"Addr":["secret"]}"#, "\"Addr\""),
            (r#"{"Addr":"secret"}"#, "host:port"),
        ];
        assert_reasons(GoNaming, "web/a:1", &bad);
    }
}

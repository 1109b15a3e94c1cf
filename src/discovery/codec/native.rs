//! The codec `Native`: one JSON object with all properties of an instance. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use super::Codec;
use super::bad_value::BadValue;
use super::fields::{Fields, object, wrong};
use super::path;
use crate::discovery::instance::{Extra, Instance};
use crate::discovery::status::Status;

/// One JSON object with every property of the instance. It is the default.
///
/// ```json
/// {"v":1,"id":"api-7","addr":"10.0.0.5:8080","endpoints":{"admin":"http://10.0.0.5:9090/"},
///  "version":"1.4.2","weight":10,"zone":"eu-1a","tags":["canary"],"meta":{"team":"core"},
///  "status":"out_of_service","reason":"the disk is full","since":1700000000000,"inc":3}
/// ```
///
/// Only `addr` is required. Unknown fields are kept, and written again with the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Native;

impl Codec for Native {
    fn name(&self) -> &str {
        NAME
    }

    fn default_prefix(&self) -> &str {
        "/services/"
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        Ok(path::key(prefix, &instance.service, &instance.id).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        Ok(Some(encode(instance)))
    }

    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let (service, id) = path::split(prefix, key)?;
        decode(service, id, value).map(Some)
    }
}

const NAME: &str = "native";

/// The version of the written format. Higher versions can be read, because they only add fields.
const FORMAT: u64 = 1;

fn encode(instance: &Instance) -> Bytes {
    // Sorted here, so that the bytes do not depend on a feature flag of serde_json.
    let mut fields: BTreeMap<String, Value> = instance.extra.of(NAME).into_iter().collect();
    let mut set = |name: &str, value: Value| {
        let empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        };
        // Omitted, because each instance is in the memory of every reader.
        if !empty {
            fields.insert(name.to_owned(), value);
        }
    };
    set("v", FORMAT.into());
    set("id", instance.id.as_str().into());
    set("addr", instance.addr.as_str().into());
    set("endpoints", object(&instance.endpoints));
    set("version", instance.version.as_str().into());
    set("weight", instance.weight.into());
    set("zone", instance.zone.as_str().into());
    set("tags", instance.tags.clone().into());
    set("meta", object(&instance.meta));
    set("status", instance.status.as_str().into());
    set("reason", instance.reason.as_str().into());
    if let Some(since) = instance.since {
        set("since", since.into());
    }
    set("inc", instance.incarnation.into());
    Value::Object(fields.into_iter().collect())
        .to_string()
        .into()
}

fn decode(service: &str, id: &str, value: &[u8]) -> Result<Instance, BadValue> {
    let mut fields = Fields::parse(value)?;
    // A newer format is decoded as far as possible: its fields can only have been added.
    let format = fields.number("v")?.unwrap_or(FORMAT);
    let addr = match fields.text("addr")? {
        Some(addr) => addr,
        None if format > FORMAT => {
            return Err(BadValue::new(format!(
                "its format {format} is newer than this program, and has no \"addr\""
            )));
        }
        None => return Err(BadValue::new("it has no \"addr\"")),
    };
    // The key makes an id unique. A value that was copied to another key is not an instance.
    if fields.text("id")?.is_some_and(|written| written != id) {
        return Err(BadValue::new("its \"id\" is not the one in its key"));
    }
    let mut instance = Instance::new(service, addr).id(id);
    instance.endpoints = fields.entries("endpoints")?;
    instance.version = fields.text("version")?.unwrap_or_default();
    if let Some(weight) = fields.number("weight")? {
        instance.weight = u32::try_from(weight).map_err(|_| wrong("weight", "below 2^32"))?;
    }
    instance.zone = fields.text("zone")?.unwrap_or_default();
    instance.tags = fields.list("tags")?;
    instance.meta = fields.entries("meta")?;
    if let Some(status) = fields.text("status")? {
        instance.status =
            Status::from_name(&status).ok_or_else(|| wrong("status", "a known status"))?;
    }
    instance.reason = fields.text("reason")?.unwrap_or_default();
    instance.since = fields.number("since")?;
    instance.incarnation = fields.number("inc")?.unwrap_or(0);
    // Unknown fields are written back by an update of this program.
    instance.extra = Extra::new(NAME, fields.rest());
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::discovery::codec::{Format, Plain};

    fn read(value: &str) -> Result<Instance, BadValue> {
        let read = Format::new(Native).decode(b"/services/api/api-7", value.as_bytes());
        read.map(Option::unwrap)
    }

    fn encoded(instance: &Instance, incarnation: u64) -> Bytes {
        let instance = Instance {
            incarnation,
            ..instance.clone()
        };
        Native.encode(&instance).unwrap().unwrap()
    }

    fn reason(value: &str) -> String {
        read(value).unwrap_err().to_string()
    }

    #[test]
    fn an_instance_with_all_fields_has_the_documented_encoding() {
        let instance = Instance::new("api", "10.0.0.5:8080")
            .id("api-7")
            .version("1.4.2")
            .weight(10)
            .zone("eu-1a")
            .tag("canary")
            .tag("arm")
            .meta("team", "core")
            .endpoint("admin", "http://10.0.0.5:9090/")
            .status(Status::OutOfService)
            .reason("full")
            .meta("team", "core");
        let instance = Instance {
            since: Some(1_700_000_000_000),
            ..instance
        };
        assert_eq!(
            Format::new(Native).key(&instance).unwrap(),
            "/services/api/api-7"
        );
        assert_eq!(
            encoded(&instance, 3),
            concat!(
                r#"{"addr":"10.0.0.5:8080","endpoints":{"admin":"http://10.0.0.5:9090/"},"#,
                r#""id":"api-7","inc":3,"meta":{"team":"core"},"reason":"full","since":1700000000000,"#,
                r#""status":"out_of_service","tags":["canary","arm"],"v":1,"version":"1.4.2","#,
                r#""weight":10,"zone":"eu-1a"}"#
            )
        );
    }

    #[test]
    fn a_minimal_instance_has_the_documented_encoding() {
        assert_eq!(
            encoded(&Instance::new("api", "a:1"), 0),
            r#"{"addr":"a:1","id":"a:1","inc":0,"status":"up","v":1,"weight":1}"#
        );
    }

    #[test]
    fn only_the_address_is_required_and_null_means_absent() {
        let bare = Instance::new("api", "a:1").id("api-7");
        assert_eq!(read(r#"{"addr":"a:1"}"#), Ok(bare.clone()));
        let nulls = r#"{"addr":"a:1","id":null,"tags":null,"meta":null,"weight":null,"v":null}"#;
        assert_eq!(read(nulls), Ok(bare));
    }

    #[test]
    fn unknown_fields_are_preserved() {
        let instance = read(r#"{"v":2,"addr":"a:1","lane":{"b":[1,null],"a":"x"}}"#).unwrap();
        assert_eq!(
            encoded(&instance.weight(5), 1),
            r#"{"addr":"a:1","id":"api-7","inc":1,"lane":{"a":"x","b":[1,null]},"status":"up","v":1,"weight":5}"#
        );
    }

    #[test]
    fn the_error_of_a_malformed_value_has_the_reason_and_not_the_value() {
        for (value, expected) in [
            ("", "not JSON"),
            ("secret", "not JSON"),
            (r#"{"addr":"secret:1"#, "not JSON"),
            (r#"["secret"]"#, "not an object"),
            ("{}", "it has no \"addr\""),
            (r#"{"v":1}"#, "it has no \"addr\""),
            (r#"{"v":2,"address":"secret:1"}"#, "format 2 is newer"),
            (r#"{"v":"secret","addr":"a:1"}"#, "\"v\""),
            (r#"{"v":-1,"addr":"a:1"}"#, "\"v\""),
            (r#"{"addr":7}"#, "\"addr\""),
            (r#"{"addr":"secret"}"#, "address"),
            (r#"{"addr":"a:1","id":"secret"}"#, "in its key"),
            (r#"{"addr":"a:1","weight":"secret"}"#, "\"weight\""),
            (r#"{"addr":"a:1","weight":4294967296}"#, "below 2^32"),
            (r#"{"addr":"a:1","weight":1.5}"#, "\"weight\""),
            (r#"{"addr":"a:1","tags":"secret"}"#, "\"tags\""),
            (r#"{"addr":"a:1","tags":["secret",1]}"#, "\"tags\""),
            (r#"{"addr":"a:1","meta":{"secret":1}}"#, "\"meta\""),
            (r#"{"addr":"a:1","endpoints":[]}"#, "\"endpoints\""),
            (r#"{"addr":"a:1","status":"secret"}"#, "\"status\""),
            (r#"{"addr":"a:1","status":1}"#, "\"status\""),
            (r#"{"addr":"a:1","since":-1}"#, "\"since\""),
            (r#"{"addr":"a:1","inc":"secret"}"#, "\"inc\""),
        ] {
            let reason = reason(value);
            assert!(reason.contains(expected), "{value}: {reason}");
            assert!(!reason.contains("secret"), "{value}: {reason}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = format!("{{\"addr\":{}", "[".repeat(100_000));
        assert!(reason(&deep).contains("not JSON"));
    }

    fn any_text() -> impl Strategy<Value = String> {
        "\\PC{0,8}"
    }

    fn any_name() -> impl Strategy<Value = String> {
        "[^/\\pC]{1,12}"
    }

    prop_compose! {
        fn any_instance()(
            names in (any_name(), any_name()),
            addr in prop_oneof!["[a-z]{1,9}:[1-9][0-9]{0,3}", Just("[::1]:80".to_owned())],
            texts in (any_text(), any_text(), vec(any_text(), 0..3)),
            maps in (btree_map(any_text(), any_text(), 0..3), btree_map(any_text(), any_text(), 0..3)),
            numbers in (any::<u32>(), any::<Option<u64>>(), any::<u64>()),
            status in prop::sample::select(vec![
                Status::Starting, Status::Up, Status::Draining, Status::OutOfService, Status::Maintenance,
            ]),
            reason in any_text(),
            extra in btree_map("x[a-z]{0,3}", any::<i64>(), 0..3),
        ) -> Instance {
            let mut instance = Instance::new(names.0, addr).id(names.1).status(status).reason(reason);
            (instance.version, instance.zone, instance.tags) = texts;
            (instance.meta, instance.endpoints) = maps;
            (instance.weight, instance.since, instance.incarnation) = numbers;
            let extra = extra.into_iter().map(|(name, n)| (name, n.into())).collect();
            instance.extra = Extra::new(NAME, extra);
            instance
        }
    }

    proptest! {
        #[test]
        fn an_encoded_instance_decodes_to_the_same_instance(instance in any_instance(), prefix in "(/?[a-z]{1,3}/?)?") {
            prop_assert!(instance.check().is_ok());
            let native = Format::new(Native).prefix(&prefix);
            let key = native.key(&instance).unwrap();
            let value = native.encode(&instance).unwrap().unwrap();
            prop_assert_eq!(native.decode(&key, &value), Ok(Some(instance.clone())));
            prop_assert!(native.range(&instance.service).contains(&key));
            // A value that is read and written again does not change.
            let again = native.decode(&key, &value).unwrap().unwrap();
            prop_assert_eq!(native.encode(&again).unwrap(), Some(value));

            let plain = Format::new(Plain).prefix(&prefix);
            let key = plain.key(&instance).unwrap();
            let value = plain.encode(&instance).unwrap();
            prop_assert_eq!(value.is_some(), instance.is_pickable());
            if let Some(value) = value {
                let read = Instance::new(instance.service, instance.addr);
                prop_assert_eq!(plain.decode(&key, &value), Ok(Some(read)));
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_make_a_codec_panic(key in vec(any::<u8>(), 0..20), value in vec(any::<u8>(), 0..40)) {
            for format in [Format::new(Plain), Format::new(Native)] {
                let format = format.prefix("/");
                let _ = format.decode(&key, &value);
                let _ = format.decode(b"/a/b", &value);
            }
        }
    }
}

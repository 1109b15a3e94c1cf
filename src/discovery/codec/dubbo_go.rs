//! The codec `DubboGo`: the instances of dubbo-go's applications. Pure.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::Codec;
use super::bad_value::BadValue;
use super::fields::{Fields, ObjectWriter, object_or_null, wrong};
use super::path;
use super::properties::{Property, from_metadata, to_metadata};
use crate::discovery::instance::{Extra, Instance};
use crate::discovery::status::Status;
use crate::error::Error;

/// The format of dubbo-go's discovery of applications (`registry/etcdv3`, `registry-type: service`).
///
/// The key `/services/web/10.0.0.5:20000` has the value `{"ID":"10.0.0.5:20000","ServiceName":"web",`
/// `"Host":"10.0.0.5","Port":20000,"Weight":100,"Enable":true,"Healthy":true,"Metadata":{..},..}` and a newline.
/// The service is the application, and the address is the id. dubbo-go reads the weight 0 or less as 100.
///
/// The metadata is `Metadata`, together with the entries `version` and `zone`. The first tag is `Tag`; further
/// tags and endpoints are not stored. dubbo-go calls an instance only if its metadata says how to find the
/// methods of the application: set `dubbo.metadata.revision` and what belongs to it.
///
/// dubbo-go ignores `Enable` and `Healthy`, so an instance that takes no calls has no key. One that is read
/// with one of them `false` is [`Status::OutOfService`].
///
/// The prefix `/services/` is also that of [`Native`](super::Native): give one of them another prefix when
/// both are used on one etcd.
///
/// ```
/// use etcd_blocking::Instance;
/// use etcd_blocking::codec::{Codec, DubboGo};
///
/// let web = Instance::new("web", "10.0.0.5:20000");
/// assert_eq!(DubboGo.key(DubboGo.default_prefix(), &web)?, "/services/web/10.0.0.5:20000");
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct DubboGo;

const NAME: &str = "dubbo-go";

const DEFAULT_WEIGHT: u32 = 100;

const PROPERTIES: [Property; 2] = [Property::Version, Property::Zone];

impl Codec for DubboGo {
    fn name(&self) -> &str {
        NAME
    }

    fn default_prefix(&self) -> &str {
        "/services/"
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        Ok(path::key(prefix, &instance.service, &instance.addr).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        if !instance.is_pickable() {
            return Ok(None);
        }
        let (host, port) = instance.host_and_port().ok_or_else(|| {
            let addr = &instance.addr;
            Error::invalid(format!("the address {addr:?} is not host:port"))
        })?;
        let mut extra = instance.extra.of(NAME);
        let mut kept = |name| extra.remove(name).unwrap_or_default();
        let (metadata, group) = (kept("ServiceMetadata"), kept("GroupName"));
        let tag = instance.tags.first().map_or("", String::as_str);
        let value = ObjectWriter::default()
            .field("ID", instance.addr.as_str())
            .field("ServiceName", instance.service.as_str())
            .field("Host", host)
            .field("Port", port)
            .field("Weight", instance.weight)
            .field("Enable", true)
            .field("Healthy", true)
            .field(
                "Metadata",
                object_or_null(&to_metadata(instance, &PROPERTIES)),
            )
            .field("ServiceMetadata", metadata)
            .field("Address", "")
            .field("GroupName", group.as_str().unwrap_or_default())
            .field("Tag", tag)
            .rest(extra);
        let mut value = BytesMut::from(value.end());
        // As Go's encoder does.
        value.extend_from_slice(b"\n");
        Ok(Some(value.freeze()))
    }

    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let (service, id) = path::split(prefix, key)?;
        let mut fields = Fields::parse_go(value)?;
        if fields
            .text("ServiceName")?
            .is_none_or(|name| name != service)
        {
            let reason = "its \"ServiceName\" is not the service in its key";
            return Err(BadValue::new(reason));
        }
        let mut instance = Instance::new(service, address(&mut fields)?);
        // The key has no brackets around an IPv6 address.
        if instance.addr.replace(['[', ']'], "") != id.replace(['[', ']'], "") {
            instance = instance.id(id);
        }
        instance.weight = fields.weight("Weight", DEFAULT_WEIGHT)?;
        let enabled = fields.flag("Enable")?.unwrap_or(true);
        if !(fields.flag("Healthy")?.unwrap_or(true) && enabled) {
            instance.status = Status::OutOfService;
        }
        let tag = fields.text("Tag")?;
        instance.tags.extend(tag.filter(|tag| !tag.is_empty()));
        from_metadata(&mut instance, &PROPERTIES, fields.entries("Metadata")?);
        let _ = (fields.take("ID"), fields.take("Address"));
        let mut rest: Map<String, Value> = fields.rest();
        rest.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
        instance.extra = Extra::new(NAME, rest);
        Ok(Some(instance))
    }
}

fn address(fields: &mut Fields) -> Result<String, BadValue> {
    let host = fields.text("Host")?.unwrap_or_default();
    let port = fields.number("Port")?.unwrap_or_default();
    let port = u16::try_from(port).map_err(|_| wrong("Port", "a port"))?;
    if host.contains(':') && !host.starts_with('[') {
        Ok(format!("[{host}]:{port}"))
    } else {
        Ok(format!("{host}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::codec::golden::{self, assert_reasons};

    const GOLDEN: &str = include_str!("golden/dubbo-go.txt");

    fn read(value: &str) -> Instance {
        let read = DubboGo.decode("", b"web/a:1", value.as_bytes());
        read.unwrap().unwrap()
    }

    #[test]
    fn values_of_dubbo_go_are_read_and_written() {
        let read =
            golden::assert_same_json(DubboGo, &GOLDEN.replace("\"Weight\":0", "\"Weight\":100"));
        assert_eq!(
            (read[0].addr.as_str(), read[0].weight),
            ("10.0.0.1:8080", 100)
        );
        assert_eq!(read[0].meta["dubbo.metadata.revision"], "2f1a");
        let full = &read[1];
        assert_eq!((full.weight, full.version.as_str()), (40, "v2"));
        assert_eq!(full.tags, ["gray"]);
        let (key, value) = golden::records(GOLDEN)[0];
        let read = DubboGo.decode("/services", key.as_bytes(), format!("{value}\n").as_bytes());
        assert_eq!(
            read.unwrap().unwrap().weight,
            100,
            "0 is the default of dubbo-go"
        );
    }

    #[test]
    fn a_value_has_the_fields_of_dubbo_go_in_its_order_and_a_newline() {
        let written = DubboGo
            .encode(&Instance::new("web", "[::1]:1").zone("eu"))
            .unwrap();
        let expected = concat!(
            r#"{"ID":"[::1]:1","ServiceName":"web","Host":"::1","Port":1,"Weight":1,"Enable":true,"#,
            r#""Healthy":true,"Metadata":{"zone":"eu"},"ServiceMetadata":null,"Address":"","#,
            r#""GroupName":"","Tag":""}"#
        );
        assert_eq!(written.unwrap(), format!("{expected}\n"));
        let value = expected.as_bytes();
        let read = DubboGo.decode("", b"web/::1:1", value).unwrap();
        assert_eq!(read, Some(Instance::new("web", "[::1]:1").zone("eu")));
    }

    #[test]
    fn an_instance_that_takes_no_calls_has_no_value() {
        let web = Instance::new("web", "a:1");
        assert_eq!(DubboGo.encode(&web.clone().weight(0)).unwrap(), None);
        assert_eq!(DubboGo.encode(&web.status(Status::Starting)).unwrap(), None);
    }

    #[test]
    fn a_disabled_or_unhealthy_instance_is_out_of_service() {
        for field in ["Enable", "Healthy"] {
            let value = format!(r#"{{"ServiceName":"web","Host":"a","Port":1,"{field}":false}}"#);
            assert_eq!(read(&value).status, Status::OutOfService);
        }
    }

    #[test]
    fn unknown_fields_are_preserved() {
        let value = r#"{"ServiceName":"web","Host":"a","Port":1,"GroupName":"g","lane":[1]}"#;
        let written = DubboGo.encode(&read(value)).unwrap().unwrap();
        let written = String::from_utf8(written.to_vec()).unwrap();
        assert!(written.contains(r#""GroupName":"g""#) && written.contains(r#""lane":[1]"#));
    }

    #[test]
    fn malformed_values_have_a_reason_without_the_value() {
        let bad = [
            ("secret", "not JSON"),
            ("{}", "\"ServiceName\""),
            (r#"{"ServiceName":"secret"}"#, "\"ServiceName\""),
            (r#"{"ServiceName":"web","Port":1}"#, "host:port"),
            (r#"{"ServiceName":"web","Host":"a"}"#, "host:port"),
            (
                r#"{"ServiceName":"web","Host":"a","Port":70000}"#,
                "\"Port\"",
            ),
            (
                r#"{"ServiceName":"web","Host":"a","Port":"secret"}"#,
                "\"Port\"",
            ),
            (
                r#"{"ServiceName":"web","Host":"a","Port":1,"Healthy":"secret"}"#,
                "\"Healthy\"",
            ),
            (
                r#"{"ServiceName":"web","Host":"a","Port":1,"Metadata":"secret"}"#,
                "\"Metadata\"",
            ),
        ];
        assert_reasons(DubboGo, "/services/web/a:1", &bad);
    }
}

//! The codec `Kratos`: the instances of kratos. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Codec;
use super::bad_value::BadValue;
use super::fields::{Fields, ObjectWriter, object_or_null};
use super::properties::{Property, from_metadata, to_metadata};
use super::{path, url};
use crate::discovery::address;
use crate::discovery::instance::{Extra, Instance};
use crate::error::Error;

/// The format of kratos (`contrib/registry/etcd`).
///
/// The key `/microservices/web/ID` has the value `{"id":"ID","name":"web","version":"","metadata":null,`
/// `"endpoints":["grpc://10.0.0.5:9000?isSecure=false","http://10.0.0.5:8000"]}`.
///
/// The address of an instance that is read is that of its first endpoint. Each endpoint is also in
/// [`Instance::endpoints`] under its scheme; a second one of a scheme is `grpc-2`. The other way, the endpoint
/// with the address comes first; without such an endpoint, `grpc://` and the address is added. Each endpoint
/// must be a URL, because kratos ignores an instance with any other.
///
/// The metadata has the entries `weight` and `zone`; without a weight, kratos assumes 100. Tags are not
/// stored. An instance that takes no calls has no key.
///
/// ```
/// use etcd_blocking::Instance;
/// use etcd_blocking::codec::{Codec, Kratos};
///
/// let web = Instance::new("web", "10.0.0.5:9000").id("web-1").weight(100);
/// assert_eq!(
///     Kratos.encode(&web)?.unwrap(),
///     r#"{"id":"web-1","name":"web","version":"","metadata":null,"endpoints":["grpc://10.0.0.5:9000"]}"#
/// );
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Kratos;

const NAME: &str = "kratos";

const PROPERTIES: [Property; 2] = [Property::Weight { default: 100 }, Property::Zone];

impl Codec for Kratos {
    fn name(&self) -> &str {
        NAME
    }

    fn default_prefix(&self) -> &str {
        "/microservices/"
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        Ok(path::key(prefix, &instance.service, &instance.id).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        let endpoints = endpoints(instance)?;
        if !instance.is_pickable() {
            return Ok(None);
        }
        let value = ObjectWriter::default()
            .field("id", instance.id.as_str())
            .field("name", instance.service.as_str())
            .field("version", instance.version.as_str())
            .field(
                "metadata",
                object_or_null(&to_metadata(instance, &PROPERTIES)),
            )
            .field("endpoints", endpoints)
            .rest(instance.extra.of(NAME));
        Ok(Some(value.end()))
    }

    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        let (service, id) = path::split(prefix, key)?;
        let mut fields = Fields::parse_go(value)?;
        // kratos ignores an instance with another name.
        if fields.text("name")?.is_none_or(|name| name != service) {
            return Err(BadValue::new("its \"name\" is not the service in its key"));
        }
        if fields.text("id")?.is_some_and(|written| written != id) {
            return Err(BadValue::new("its \"id\" is not the one in its key"));
        }
        let endpoints = fields.list("endpoints")?;
        let mut addrs = endpoints.iter().filter_map(|endpoint| url::parse(endpoint));
        let addr = addrs
            .find(|url| address::parse(url.authority).is_ok())
            .ok_or_else(|| BadValue::new("it has no endpoint with a host and a port"))?;
        let mut instance = Instance::new(service, addr.authority).id(id);
        instance.version = fields.text("version")?.unwrap_or_default();
        from_metadata(&mut instance, &PROPERTIES, fields.entries("metadata")?);
        instance.endpoints = by_scheme(endpoints);
        instance.extra = Extra::new(NAME, fields.rest());
        Ok(Some(instance))
    }
}

/// The endpoints of an instance, with that of its address first.
fn endpoints(instance: &Instance) -> crate::Result<Vec<String>> {
    let mut first = None;
    let mut others = Vec::new();
    for (name, endpoint) in &instance.endpoints {
        let url = url::parse(endpoint).ok_or_else(|| {
            Error::invalid(format!(
                "the codec kratos stores an endpoint as a URL, and the endpoint {name:?} is none: \
                 write it as http://host:port, or leave it out"
            ))
        })?;
        if first.is_none() && url.authority == instance.addr {
            first = Some(endpoint.clone());
        } else {
            others.push(endpoint.clone());
        }
    }
    let first = first.unwrap_or_else(|| format!("grpc://{}", instance.addr));
    others.insert(0, first);
    Ok(others)
}

/// The endpoints by their scheme, and by scheme and number after the first of a scheme.
fn by_scheme(endpoints: Vec<String>) -> BTreeMap<String, String> {
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for endpoint in endpoints {
        let scheme = url::parse(&endpoint).map_or("other", |url| url.scheme);
        let names = (1_u64..).map(|n| match n {
            1 => scheme.to_owned(),
            n => format!("{scheme}-{n}"),
        });
        let mut free = names.skip_while(|name| named.contains_key(name));
        if let Some(name) = free.next() {
            named.insert(name, endpoint);
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::codec::golden::{self, assert_reasons};
    use crate::discovery::status::Status;

    const GOLDEN: &str = include_str!("golden/kratos.txt");

    fn written(instance: &Instance) -> String {
        let value = Kratos.encode(instance).unwrap().unwrap();
        String::from_utf8(value.to_vec()).unwrap()
    }

    fn read(value: &str) -> Instance {
        let read = Kratos.decode("", b"web/w1", value.as_bytes());
        read.unwrap().unwrap()
    }

    #[test]
    fn values_of_kratos_are_read_and_written_byte_for_byte() {
        let read = golden::assert_same_bytes(Kratos, GOLDEN);
        let web = Instance::new("web", "10.0.0.1:8080")
            .id("kratos-10.0.0.1:8080")
            .version("v1")
            .weight(100)
            .endpoint("http", "http://10.0.0.1:8080?isSecure=false")
            .endpoint("grpc", "grpc://10.9.9.9:9000?isSecure=false");
        assert_eq!(read[0], web);
        let full = web.version("v2").weight(40).zone("eu").meta("team", "core");
        assert_eq!(read[1], full);
    }

    #[test]
    fn the_endpoint_with_the_address_comes_first() {
        let web = Instance::new("web", "a:2")
            .endpoint("admin", "http://a:1/x")
            .endpoint("public", "https://a:2");
        assert!(written(&web).contains(r#""endpoints":["https://a:2","http://a:1/x"]"#));
        let bare = Instance::new("web", "a:3").endpoint("admin", "http://a:1");
        assert!(written(&bare).contains(r#""endpoints":["grpc://a:3","http://a:1"]"#));
    }

    #[test]
    fn the_address_is_that_of_the_first_endpoint_with_a_host_and_a_port() {
        let endpoints = r#"["unix:///x","http://a","grpc://a:2","grpc://b:3/p?q"]"#;
        let web = read(&format!(r#"{{"name":"web","endpoints":{endpoints}}}"#));
        assert_eq!(web.addr, "a:2");
        let names: Vec<_> = web
            .endpoints
            .iter()
            .map(|(n, u)| format!("{n} {u}"))
            .collect();
        let expected = [
            "grpc grpc://a:2",
            "grpc-2 grpc://b:3/p?q",
            "http http://a",
            "other unix:///x",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_refused_with_advice() {
        let web = Instance::new("web", "a:1").endpoint("admin", "a:2");
        let error = Kratos.encode(&web).unwrap_err().to_string();
        assert!(
            error.contains("\"admin\"") && error.contains("http://host:port"),
            "{error}"
        );
    }

    #[test]
    fn an_instance_that_takes_no_calls_has_no_value() {
        let web = Instance::new("web", "a:1");
        assert_eq!(Kratos.encode(&web.clone().weight(0)).unwrap(), None);
        assert_eq!(
            Kratos.encode(&web.status(Status::Maintenance)).unwrap(),
            None
        );
    }

    #[test]
    fn unknown_fields_are_preserved() {
        let value = r#"{"id":"w1","name":"web","version":"","metadata":{"weight":"1"},"endpoints":["grpc://a:1"],"lane":[1]}"#;
        assert_eq!(written(&read(value)), value);
    }

    #[test]
    fn malformed_values_have_a_reason_without_the_value() {
        let bad = [
            ("secret", "not JSON"),
            (r#"{"id":"w1","endpoints":["grpc://a:1"]}"#, "\"name\""),
            (
                r#"{"name":"secret","endpoints":["grpc://a:1"]}"#,
                "\"name\"",
            ),
            (
                r#"{"id":"secret","name":"web","endpoints":["grpc://a:1"]}"#,
                "\"id\"",
            ),
            (r#"{"name":"web"}"#, "no endpoint"),
            (r#"{"name":"web","endpoints":["secret"]}"#, "no endpoint"),
            (
                r#"{"name":"web","endpoints":["grpc://0.0.0.0:1"]}"#,
                "no endpoint",
            ),
            (
                r#"{"name":"web","endpoints":{"secret":1}}"#,
                "\"endpoints\"",
            ),
            (
                r#"{"name":"web","endpoints":["grpc://a:1"],"metadata":"secret"}"#,
                "\"metadata\"",
            ),
            (
                r#"{"name":"web","endpoints":["grpc://a:1"],"version":7}"#,
                "\"version\"",
            ),
        ];
        assert_reasons(Kratos, "/microservices/web/w1", &bad);
    }
}

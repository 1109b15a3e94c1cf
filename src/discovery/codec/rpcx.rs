//! The codec `Rpcx`: the servers of rpcx. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bad_value::BadValue;
use super::properties::{Property, from_metadata, to_metadata};
use super::{Codec, path, url};
use crate::discovery::instance::Instance;
use crate::discovery::status::Status;

/// The format of rpcx (`rpcx-etcd`, version 3 of the API).
///
/// The key `/rpcx_test/Arith/tcp@10.0.0.5:8972` has a query as its value, such as `group=g&weight=7`. rpcx has no
/// default for the prefix, which it calls base path; `/rpcx_test` is that of its examples. The keys `/rpcx_test`
/// and `/rpcx_test/Arith` that rpcx writes too are ignored.
///
/// The address is the id. The metadata is the query, together with the entries `version`, `weight` (unless it
/// is 1), `zone`, and one entry `tag` for each tag. Endpoints are not stored. An instance that takes no calls has
/// `state=inactive`, in place of any other `state`, and is read as [`Status::OutOfService`].
///
/// ```
/// use etcd_blocking::Instance;
/// use etcd_blocking::codec::{Codec, Rpcx};
///
/// let arith = Instance::new("Arith", "10.0.0.5:8972").weight(7).meta("group", "g");
/// assert_eq!(Rpcx.key("/rpcx_test", &arith)?, "/rpcx_test/Arith/tcp@10.0.0.5:8972");
/// assert_eq!(Rpcx.encode(&arith)?.unwrap(), "group=g&weight=7");
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Rpcx;

const PROPERTIES: [Property; 3] = [
    Property::Version,
    Property::Weight { default: 1 },
    Property::Zone,
];

impl Codec for Rpcx {
    fn name(&self) -> &str {
        "rpcx"
    }

    fn default_prefix(&self) -> &str {
        "/rpcx_test/"
    }

    fn key(&self, prefix: &str, instance: &Instance) -> crate::Result<Bytes> {
        let name = format!("tcp@{}", instance.addr);
        Ok(path::key(prefix, &instance.service, &name).into())
    }

    fn encode(&self, instance: &Instance) -> crate::Result<Option<Bytes>> {
        let mut metadata = to_metadata(instance, &PROPERTIES);
        if !instance.is_pickable() {
            metadata.insert("state".to_owned(), "inactive".to_owned());
        }
        let entries = metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let tags = instance.tags.iter().map(|tag| ("tag", tag.as_str()));
        let mut pairs: Vec<_> = entries.chain(tags).collect();
        // Stable, so the tags keep their order.
        pairs.sort_by_key(|(name, _)| *name);
        Ok(Some(url::query(pairs).into()))
    }

    fn decode(&self, prefix: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, BadValue> {
        // The placeholder of a service.
        if !path::below(prefix, key)?.contains('/') {
            return Ok(None);
        }
        let (service, name) = path::split(prefix, key)?;
        let (network, addr) = name.split_once('@').ok_or_else(|| {
            BadValue::new("its key does not end with a network, '@' and an address")
        })?;
        let value = std::str::from_utf8(value).map_err(|_| BadValue::new("it is not UTF-8"))?;
        let mut instance = Instance::new(service, addr);
        if network != "tcp" {
            instance = instance.id(name);
        }
        let mut metadata = BTreeMap::new();
        for (name, value) in url::parse_query(value)? {
            match name.as_str() {
                "tag" => instance.tags.push(value),
                // rpcx reads the first of several.
                _ => drop(metadata.entry(name).or_insert(value)),
            }
        }
        if metadata
            .get("state")
            .is_some_and(|state| state == "inactive")
        {
            metadata.remove("state");
            instance.status = Status::OutOfService;
        }
        from_metadata(&mut instance, &PROPERTIES, metadata);
        Ok(Some(instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::codec::Format;
    use crate::discovery::codec::golden::{assert_reasons, records};

    const GOLDEN: &str = include_str!("golden/rpcx.txt");

    #[test]
    fn values_of_rpcx_are_read_and_written_byte_for_byte() {
        let format = Format::new(Rpcx);
        let read = records(GOLDEN).into_iter().filter_map(|(key, value)| {
            // The base path itself is outside of every range that is read.
            if key == "/rpcx_test" {
                return None;
            }
            let read = format.decode(key.as_bytes(), value.as_bytes()).unwrap()?;
            assert_eq!(format.key(&read).unwrap(), key);
            assert_eq!(format.encode(&read).unwrap().unwrap(), value);
            Some(read)
        });
        let web = Instance::new("web", "10.0.0.1:8080");
        let full = web.clone().weight(40).zone("eu").meta("team", "core a/b");
        let full = full.meta("calls", "0.00").meta("connections", "1.50");
        let expected = [
            web.weight(7).meta("group", "g"),
            full.status(Status::OutOfService),
        ];
        assert_eq!(read.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_instance_that_takes_no_calls_is_inactive() {
        let web = Instance::new("web", "a:1");
        for web in [web.clone().status(Status::Draining), web.clone().weight(0)] {
            let value = Rpcx.encode(&web).unwrap().unwrap();
            let read = Rpcx.decode("", b"web/tcp@a:1", &value).unwrap().unwrap();
            assert_eq!(read.status, Status::OutOfService);
        }
    }

    #[test]
    fn tags_are_repeated_entries() {
        let web = Instance::new("web", "a:1")
            .tag("b")
            .tag("a")
            .meta("z", "1")
            .meta("a", "2");
        let value = Rpcx.encode(&web).unwrap().unwrap();
        assert_eq!(value, "a=2&tag=b&tag=a&z=1");
        assert_eq!(Rpcx.decode("", b"web/tcp@a:1", &value).unwrap(), Some(web));
    }

    #[test]
    fn another_network_is_part_of_the_id() {
        let read = Rpcx.decode("", b"web/quic@a:1", b"x=1&x=2").unwrap();
        let web = Instance::new("web", "a:1").id("quic@a:1").meta("x", "1");
        assert_eq!(read, Some(web));
    }

    #[test]
    fn malformed_values_have_a_reason_without_the_value() {
        let bad = [("secret=%zz", "percent-escape"), ("a;secret", "semicolon")];
        assert_reasons(Rpcx, "/rpcx_test/web/tcp@a:1", &bad);
        assert_reasons(Rpcx, "/rpcx_test/web/secret", &[("", "network")]);
        assert_reasons(Rpcx, "/rpcx_test/web/unix@secret", &[("", "host:port")]);
        assert_reasons(Rpcx, "/rpcx_test/web/x/tcp@a:1", &[("", "separated by")]);
    }
}

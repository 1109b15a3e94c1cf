//! The codec `SkyDns`: the records of CoreDNS. Pure.

use bytes::Bytes;

use super::Codec;
use super::bad_value::BadValue;
use super::dns_label::{self, check_label};
use super::fields::{Fields, ObjectWriter, wrong};
use super::path;
use crate::discovery::instance::{Extra, Instance};
use crate::error::{Error, Result};

/// The format of CoreDNS (plugin `etcd`), which was that of SkyDNS: any DNS client finds the instances.
///
/// The prefix is the path of the plugin and then the zone, label by label from the right: with the prefix
/// `/skydns/local/cluster/` the service `web` has the name `web.cluster.local`. An A or AAAA query for it
/// returns the hosts of all instances, an SRV query also their ports and weights. The key
/// `/skydns/local/cluster/web/10-0-0-5-8080` has the value `{"host":"10.0.0.5","port":8080,"weight":1,"ttl":30}`.
///
/// One invalid record breaks the answers of CoreDNS for its name and all names above it. Therefore the labels of
/// the zone and the service and the host are checked before anything is written. The last part of the key is
/// the id if this is a label, or else is made from it, such as `10-0-0-5-8080`.
///
/// Only the address, the weight and an id that is a label or the address are stored. CoreDNS reads the weight 0
/// as 100. An instance that takes no calls has no key. CoreDNS lets clients keep an answer for the smaller of
/// `ttl` and the rest of the lease, but for at least 30 s.
///
/// Records without a port, mail records, and names with more or fewer labels are no instances, and are ignored.
///
/// ```
/// use etcd_blocking::Instance;
/// use etcd_blocking::codec::{Codec, SkyDns};
///
/// let web = Instance::new("web", "10.0.0.5:8080").weight(100);
/// assert_eq!(
///     SkyDns.key("/skydns/local/cluster/", &web)?,
///     "/skydns/local/cluster/web/10-0-0-5-8080"
/// );
/// assert_eq!(SkyDns.encode(&web)?.unwrap(), r#"{"host":"10.0.0.5","port":8080,"ttl":30}"#);
/// assert!(SkyDns.key("/skydns/local/", &Instance::new("my_Web", "10.0.0.5:8080")).is_err());
/// # Ok::<(), etcd_blocking::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SkyDns;

const NAME: &str = "skydns";

/// What CoreDNS assumes without a weight.
const DEFAULT_WEIGHT: u32 = 100;

/// How long clients may keep an answer, in seconds. CoreDNS would assume 300, which is too long for instances
/// that come and go; it raises what a lease has left to 30.
const TTL: u32 = 30;

/// The longest name, without its last dot.
const NAME_LENGTH: usize = 253;

impl Codec for SkyDns {
    fn name(&self) -> &str {
        NAME
    }

    fn default_prefix(&self) -> &str {
        "/skydns/"
    }

    fn key(&self, prefix: &str, instance: &Instance) -> Result<Bytes> {
        let service = &instance.service;
        check_prefix(prefix)?;
        check_label(service)
            .map_err(|reason| Error::invalid(format!("the service {service:?} {reason}")))?;
        if matches!(service.as_str(), "any" | "dns") {
            return Err(Error::invalid(format!(
                "the service {service:?} has a meaning of its own in CoreDNS: use another name"
            )));
        }
        let key = path::key(prefix, service, &dns_label::from_id(instance));
        if key.len() > NAME_LENGTH {
            return Err(Error::invalid(format!(
                "the name of the service {service:?} below {prefix:?} has more than {NAME_LENGTH} characters"
            )));
        }
        Ok(key.into())
    }

    fn encode(&self, instance: &Instance) -> Result<Option<Bytes>> {
        let (host, port) = instance.host_and_port().ok_or_else(|| {
            let addr = &instance.addr;
            Error::invalid(format!("the address {addr:?} is not host:port"))
        })?;
        dns_label::check_host(host)
            .map_err(|reason| Error::invalid(format!("the host {host:?} {reason}")))?;
        if !instance.is_pickable() {
            return Ok(None);
        }
        let mut extra = instance.extra.of(NAME);
        let mut value = ObjectWriter::default()
            .field("host", host)
            .field("port", port);
        // In the order of CoreDNS' own fields.
        if let Some(priority) = extra.remove("priority") {
            value = value.field("priority", priority);
        }
        if instance.weight != DEFAULT_WEIGHT {
            value = value.field("weight", instance.weight);
        }
        if let Some(text) = extra.remove("text") {
            value = value.field("text", text);
        }
        let ttl = extra.remove("ttl").unwrap_or_else(|| TTL.into());
        Ok(Some(value.field("ttl", ttl).rest(extra).end()))
    }

    fn decode(
        &self,
        prefix: &str,
        key: &[u8],
        value: &[u8],
    ) -> std::result::Result<Option<Instance>, BadValue> {
        // First, because an invalid value is a fault for CoreDNS wherever it is.
        let mut fields = Fields::parse_go(value)?;
        let host = fields.text("host")?.unwrap_or_default();
        let port = fields.number("port")?.unwrap_or_default();
        let weight = fields.weight("weight", DEFAULT_WEIGHT)?;
        let mail = fields.flag("mail")?.unwrap_or(false);
        fields.check_numbers(&["priority", "ttl", "targetstrip"])?;
        fields.check_texts(&["text", "group"])?;
        let Some((service, label)) = split(prefix, key)? else {
            return Ok(None);
        };
        if mail || host.is_empty() || port == 0 {
            return Ok(None);
        }
        let port = u16::try_from(port).map_err(|_| wrong("port", "a port"))?;
        let host = host.strip_suffix('.').unwrap_or(&host);
        let addr = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut instance = Instance::new(service, addr).weight(weight);
        if dns_label::from_id(&instance) != label {
            instance = instance.id(label);
        }
        let mut rest = fields.rest();
        if rest.get("ttl").is_some_and(|ttl| *ttl == TTL) {
            rest.remove("ttl");
        }
        instance.extra = Extra::new(NAME, rest);
        Ok(Some(instance))
    }
}

/// The service and the last label of a key, or `None` for a name with more or fewer labels.
fn split<'a>(
    prefix: &str,
    key: &'a [u8],
) -> std::result::Result<Option<(&'a str, &'a str)>, BadValue> {
    let below = path::below(prefix, key)?;
    let labels = below.split_once('/');
    Ok(labels.filter(|(service, label)| {
        !service.is_empty() && !label.is_empty() && !label.contains('/')
    }))
}

/// Checks the path and the labels of the zone.
fn check_prefix(prefix: &str) -> Result<()> {
    let invalid = |reason: &str| {
        Error::invalid(format!(
            "the prefix {prefix:?} of the codec skydns {reason}: write the path and then the zone from the \
             right, such as /skydns/local/cluster/ for cluster.local"
        ))
    };
    let labels = prefix
        .strip_prefix('/')
        .ok_or_else(|| invalid("does not begin with '/'"))?;
    let labels = labels.strip_suffix('/').unwrap_or(labels);
    labels.split('/').try_for_each(|label| {
        check_label(label).map_err(|reason| invalid(&format!("has a label that {reason}")))
    })
}

#[cfg(test)]
mod tests;

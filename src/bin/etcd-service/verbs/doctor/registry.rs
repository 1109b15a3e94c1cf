//! What is wrong with the keys below a prefix. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::SystemTime;

use etcd_blocking::{Instance, codec};

use super::clock::tolerated;
use super::finding::{Class, Finding};

/// The largest number of findings of one kind.
const MOST: usize = 20;

/// What is below a prefix.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) instances: Vec<Found>,
    /// The keys whose values are not instances.
    pub(super) bad: Vec<BadValue>,
    /// The keys that are not of the form of the format.
    pub(super) unknown: Vec<BadValue>,
    /// The keys of overrides: service, id, and why the value is wrong.
    pub(super) overrides: Vec<(String, String, Option<String>)>,
}

/// An instance that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: String,
    pub(super) instance: Instance,
    pub(super) lease: Option<i64>,
}

/// A key without an instance.
#[derive(Debug)]
pub(super) struct BadValue {
    pub(super) key: String,
    pub(super) reason: String,
    /// The format that reads it.
    pub(super) read_by: Option<String>,
}

/// The format of the library, other than this one, that reads a key and its value as an instance.
pub(super) fn format_of(key: &[u8], value: &[u8], prefix: &str, own: &str) -> Option<String> {
    let mut all: Vec<_> = codec::all()
        .into_iter()
        .filter(|of| of.name() != own)
        .collect();
    // These two read any value that is an address, so the others are tried before.
    all.sort_by_key(|of| matches!(of.name(), "plain" | "go-zero"));
    let reads = |of: &std::sync::Arc<dyn codec::Codec>| {
        let prefixes = [prefix, of.default_prefix()];
        let mut prefixes = prefixes
            .iter()
            .filter(|prefix| of.all(prefix).contains(key));
        prefixes.any(|prefix| match of.decode(prefix, key, value) {
            Ok(Some(instance)) => instance.check().is_ok(),
            _ => false,
        })
    };
    let found = all.iter().find(|of| reads(of))?;
    Some(found.name().to_owned())
}

/// What is wrong with them.
pub(super) fn examine(contents: &Contents, now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bad = contents.bad.iter().map(|bad| {
        let what = format!("the value is not an instance: {}", bad.reason);
        let advice = match &bad.read_by {
            Some(format) => {
                format!("--format {format} reads it: name the right format, or move the key")
            }
            None => "correct or delete it, or name the right --format".to_owned(),
        };
        Finding::error(Class::Registry, &bad.key, what)
            .why("views leave it out, so callers do not get this instance")
            .advice(advice)
    });
    at_most(bad, &mut findings);
    let unknown = contents.unknown.iter().map(|unknown| {
        let advice = match &unknown.read_by {
            Some(format) => {
                format!("--format {format} reads it: name the right format, or move the key")
            }
            None => "move it to another prefix, unless it is meant to be here".to_owned(),
        };
        Finding::warning(Class::Registry, &unknown.key, &unknown.reason)
            .why("views leave it out")
            .advice(advice)
    });
    at_most(unknown, &mut findings);
    let instances = &contents.instances;
    let forever = instances.iter().filter(|found| found.lease.is_none());
    let forever = forever.map(|found| {
        Finding::warning(Class::Registry, &found.key, "the instance has no lease")
            .why("it stays when its program ends, and callers get it")
            .advice("delete the key if the program is gone, and register with a lease")
    });
    at_most(forever, &mut findings);
    at_most(
        instances.iter().filter_map(|found| {
            let what = unreachable_address(&found.instance)?;
            let what = format!("the address {} of the instance {what}", found.instance.addr);
            Some(
                Finding::warning(Class::Registry, &found.key, what)
                    .why("callers on other machines cannot connect")
                    .advice("register an address that callers can reach"),
            )
        }),
        &mut findings,
    );
    at_most(
        instances.iter().filter_map(|found| {
            let since = found.instance.since()?;
            since.duration_since(tolerated(now)).ok()?;
            let ahead = since.duration_since(now).ok()?;
            let what = format!(
                "the instance was registered {} s in the future by the clock of this machine",
                ahead.as_secs()
            );
            Some(
                Finding::warning(Class::Clock, &found.key, what)
                    .why("the clock of the machine of the instance, or of this one, is wrong")
                    .advice("synchronise the clocks"),
            )
        }),
        &mut findings,
    );
    twice(instances, &mut findings);
    overrides(contents, &mut findings);
    findings
}

fn twice(instances: &[Found], findings: &mut Vec<Finding>) {
    let mut by_address: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for found in instances {
        let keys = by_address.entry(&found.instance.addr).or_default();
        keys.insert(&found.key);
    }
    let several = by_address.iter().filter(|(_, keys)| keys.len() > 1);
    at_most(
        several.map(|(address, keys)| {
            let keys: Vec<&str> = keys.iter().take(5).copied().collect();
            let what = format!("the address {address} is registered more than once");
            Finding::warning(Class::Registry, keys.join(", "), what)
                .why("it gets the calls of several instances, and one of the keys may be of a program that is gone")
                .advice("delete the key of the program that is gone, or set the same id in each format")
        }),
        findings,
    );
}

fn overrides(contents: &Contents, findings: &mut Vec<Finding>) {
    let ids: BTreeSet<(&str, &str)> = contents
        .instances
        .iter()
        .map(|found| (found.instance.service.as_str(), found.instance.id.as_str()))
        .collect();
    at_most(
        contents.overrides.iter().filter_map(|(service, id, wrong)| {
            let place = format!("the override of {service}/{id}");
            if let Some(reason) = wrong {
                let what = format!("it is ignored: {reason}");
                return Some(
                    Finding::error(Class::Registry, place, what)
                        .why("the instance has the status and the weight of its program, not the one that was set")
                        .advice("set it again, or delete it with `undrain`"),
                );
            }
            (!ids.contains(&(service.as_str(), id.as_str()))).then(|| {
                Finding::warning(Class::Registry, place, "there is no such instance")
                    .why("it will hold when an instance with that id is registered")
                    .advice("delete it with `undrain` if it is not meant to stay")
            })
        }),
        findings,
    );
}

/// Adds findings of one kind, and counts those that are too many.
pub(super) fn at_most(mut of_one_kind: impl Iterator<Item = Finding>, findings: &mut Vec<Finding>) {
    findings.extend(of_one_kind.by_ref().take(MOST));
    if let Some(next) = of_one_kind.next() {
        let more = 1 + of_one_kind.count();
        let text = format!("and {more} more such as this one: {}", next.what);
        findings.push(Finding { what: text, ..next });
    }
}

/// Why others cannot reach an instance, as far as its address shows it.
fn unreachable_address(instance: &Instance) -> Option<&'static str> {
    let parts = instance.addr.rsplit_once(':');
    let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts else {
        return Some("is not a host and a port");
    };
    if port == 0 {
        return Some("has the port 0, to which nothing can connect");
    }
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    match ip {
        Ok(ip) if ip.is_unspecified() => Some("means all addresses of a machine, not one"),
        Ok(ip) if ip.is_loopback() => Some("is reached by programs on the same machine only"),
        Err(_) if host == "localhost" => Some("is reached by programs on the same machine only"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn contents(addresses: &[&str]) -> Contents {
        let instance = |(index, address): (usize, &&str)| {
            let id = format!("i{index}");
            let instance = Instance::new("api", address).id(&id);
            Found {
                key: format!("/services/api/{id}"),
                instance,
                lease: Some(1),
            }
        };
        Contents {
            instances: addresses.iter().enumerate().map(instance).collect(),
            ..Contents::default()
        }
    }

    fn only(contents: &Contents) -> String {
        let findings = examine(contents, SystemTime::now());
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].severity > Severity::Info, "{findings:?}");
        assert!(!findings[0].why.is_empty() && !findings[0].advice.is_empty());
        format!("{}: {}", findings[0].place, findings[0].what)
    }

    #[test]
    fn good_instances_have_no_findings() {
        let mut good = contents(&["10.0.0.1:80", "[2001:db8::1]:80", "web:80"]);
        good.overrides.push(("api".into(), "i0".into(), None));
        assert_eq!(examine(&good, SystemTime::now()), []);
    }

    #[test]
    fn addresses_that_others_cannot_reach_are_found() {
        for (address, expected) in [
            ("127.0.0.1:80", "same machine only"),
            ("[::1]:80", "same machine only"),
            ("localhost:80", "same machine only"),
            ("0.0.0.0:80", "all addresses"),
            ("[::]:80", "all addresses"),
            ("10.0.0.1:0", "port 0"),
            ("nonsense", "not a host and a port"),
        ] {
            let what = only(&contents(&[address]));
            assert!(what.contains(expected), "{what}");
        }
    }

    #[test]
    fn other_defects_are_found() {
        let what = only(&contents(&["10.0.0.1:80", "10.0.0.1:80"]));
        assert!(
            what.contains("/services/api/i0, /services/api/i1"),
            "{what}"
        );
        let mut forever = contents(&["10.0.0.1:80"]);
        forever.instances[0].lease = None;
        assert!(only(&forever).contains("has no lease"));
        let mut orphan = contents(&[]);
        orphan.overrides.push(("api".into(), "gone".into(), None));
        assert!(only(&orphan).contains("no such instance"));
        let wrong = ("api".into(), "x".into(), Some("malformed".into()));
        orphan.overrides = vec![wrong];
        assert!(only(&orphan).contains("ignored: malformed"));
        let mut bad = contents(&[]);
        let value = |index: i32| BadValue {
            key: format!("k{index}"),
            reason: "no".into(),
            read_by: (index == 1).then(|| "kratos".into()),
        };
        bad.bad = (0..30).map(value).collect();
        let findings = examine(&bad, SystemTime::now());
        assert_eq!(findings.len(), MOST + 1);
        assert!(findings[1].advice.starts_with("--format kratos"));
        assert!(
            findings[MOST].what.starts_with("and 10 more"),
            "{findings:?}"
        );
    }

    #[test]
    fn a_registration_in_the_future_is_found() {
        let codec = etcd_blocking::codec::by_name("native").unwrap();
        let value = br#"{"addr":"10.0.0.1:80","since":4000000000000,"status":"up"}"#;
        let decoded = codec.decode("/services/", b"/services/api/a", value);
        let instance = decoded.unwrap().unwrap();
        let mut future = contents(&[]);
        assert!(instance.since().is_some(), "{instance:?}");
        future.instances = vec![Found {
            key: "/services/api/a".into(),
            instance,
            lease: Some(1),
        }];
        assert!(only(&future).contains("in the future"));
    }

    #[test]
    fn keys_of_no_known_form_are_found() {
        let mut unknown = contents(&[]);
        unknown.unknown.push(BadValue {
            key: "/services/x".into(),
            reason: "the key is not of this format".into(),
            read_by: None,
        });
        assert!(only(&unknown).starts_with("/services/x: the key"));
    }

    #[test]
    fn the_format_that_reads_a_value_is_named() {
        let instance = Instance::new("api", "10.0.0.1:80").id("a");
        for of in codec::all() {
            let prefix = match of.default_prefix() {
                "" => "/services/",
                prefix => prefix,
            };
            let Ok(Some(value)) = of.encode(&instance) else {
                panic!("{}", of.name());
            };
            let key = of.key(prefix, &instance).unwrap();
            let own = if of.name() == "native" {
                "plain"
            } else {
                "native"
            };
            let found = format_of(&key, &value, prefix, own);
            // Some values are the same in several formats.
            assert!(found.is_some(), "{}", of.name());
            if ["kratos", "rpcx", "go-micro", "skydns", "native"].contains(&of.name()) {
                assert_eq!(found.as_deref(), Some(of.name()));
            }
        }
        assert_eq!(
            format_of(b"/services/api/a", b"{", "/services/", "native"),
            None
        );
    }
}

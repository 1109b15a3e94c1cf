//! What is wrong with the keys below a prefix. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use etcd_blocking::Instance;

use super::finding::{Class, Finding};

/// How far the clock of a machine may be ahead before that is a finding.
const CLOCK: Duration = Duration::from_secs(5);

/// The largest number of findings of one kind.
const MOST: usize = 20;

/// What is below a prefix.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Each instance, its key, and whether it has a lease.
    pub(super) instances: Vec<(String, Instance, bool)>,
    /// The keys whose values are not instances, and why.
    pub(super) bad: Vec<(String, String)>,
    /// The keys of overrides: service, id, and why the value is wrong.
    pub(super) overrides: Vec<(String, String, Option<String>)>,
}

/// What is wrong with them.
pub(super) fn examine(contents: &Contents, now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bad = contents.bad.iter().map(|(key, reason)| {
        Finding::error(
            Class::Registry,
            format!("the value of the key {key} is not an instance: {reason}"),
            "correct or delete it, or name the right --format; views leave it out",
        )
    });
    at_most(bad, &mut findings);
    let instances = &contents.instances;
    let forever = instances.iter().filter(|(.., leased)| !leased);
    let forever = forever.map(|(key, ..)| {
        Finding::warning(
            Class::Registry,
            format!("the instance {key} has no lease, so it stays when its program ends"),
            "delete the key if the program is gone, and register with a lease",
        )
    });
    at_most(forever, &mut findings);
    at_most(
        instances.iter().filter_map(|(key, instance, _)| {
            let what = unreachable_address(instance)?;
            Some(Finding::warning(
                Class::Registry,
                format!(
                    "the instance {key} has the address {}: {what}",
                    instance.addr
                ),
                "register an address that callers can reach",
            ))
        }),
        &mut findings,
    );
    at_most(
        instances.iter().filter_map(|(key, instance, _)| {
            let ahead = instance.since()?.duration_since(now).ok()?;
            (ahead > CLOCK).then(|| {
                Finding::warning(
                    Class::Registry,
                    format!(
                        "the instance {key} was registered {} s in the future by the clock of this machine: the \
                         clock of one of both machines is wrong",
                        ahead.as_secs()
                    ),
                    "synchronise the clocks",
                )
            })
        }),
        &mut findings,
    );
    twice(instances, &mut findings);
    overrides(contents, &mut findings);
    findings
}

fn twice(instances: &[(String, Instance, bool)], findings: &mut Vec<Finding>) {
    let mut by_address: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, instance, _) in instances {
        by_address.entry(&instance.addr).or_default().insert(key);
    }
    let several = by_address.iter().filter(|(_, keys)| keys.len() > 1);
    at_most(
        several.map(|(address, keys)| {
            let keys: Vec<&str> = keys.iter().take(5).copied().collect();
            Finding::warning(
                Class::Registry,
                format!(
                    "the address {address} is registered more than once: {}",
                    keys.join(", ")
                ),
                "delete the key of the program that is gone, or set the same id in each format",
            )
        }),
        findings,
    );
}

fn overrides(contents: &Contents, findings: &mut Vec<Finding>) {
    let ids: BTreeSet<(&str, &str)> = contents
        .instances
        .iter()
        .map(|(_, instance, _)| (instance.service.as_str(), instance.id.as_str()))
        .collect();
    at_most(
        contents.overrides.iter().filter_map(|(service, id, wrong)| {
            if let Some(reason) = wrong {
                return Some(Finding::error(
                    Class::Registry,
                    format!("the override of {service}/{id} is ignored: {reason}"),
                    "set it again, or delete it with `undrain`",
                ));
            }
            (!ids.contains(&(service.as_str(), id.as_str()))).then(|| {
                Finding::warning(
                    Class::Registry,
                    format!(
                        "there is an override for {service}/{id}, but no such instance; it will hold when one with \
                         that id is registered"
                    ),
                    "delete it with `undrain` if it is not meant to stay",
                )
            })
        }),
        findings,
    );
}

/// Adds findings of one kind, and counts those that are too many.
fn at_most(mut of_one_kind: impl Iterator<Item = Finding>, findings: &mut Vec<Finding>) {
    findings.extend(of_one_kind.by_ref().take(MOST));
    if let Some(next) = of_one_kind.next() {
        let more = 1 + of_one_kind.count();
        let text = format!("{more} more such as: {}", next.what);
        findings.push(Finding { what: text, ..next });
    }
}

/// Why others cannot reach an instance, as far as its address shows it.
fn unreachable_address(instance: &Instance) -> Option<&'static str> {
    let parts = instance.addr.rsplit_once(':');
    let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts else {
        return Some("that is not a host and a port");
    };
    if port == 0 {
        return Some("nothing can connect to port 0");
    }
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    match ip {
        Ok(ip) if ip.is_unspecified() => Some("it means all addresses of a machine, not one"),
        Ok(ip) if ip.is_loopback() => Some("only programs on the same machine reach it"),
        Err(_) if host == "localhost" => Some("only programs on the same machine reach it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(addresses: &[&str]) -> Contents {
        let instance = |(index, address): (usize, &&str)| {
            let id = format!("i{index}");
            let instance = Instance::new("api", address).id(&id);
            (format!("/services/api/{id}"), instance, true)
        };
        Contents {
            instances: addresses.iter().enumerate().map(instance).collect(),
            ..Contents::default()
        }
    }

    fn only(contents: &Contents) -> String {
        let findings = examine(contents, SystemTime::now());
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings[0].what.clone()
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
            ("127.0.0.1:80", "same machine"),
            ("[::1]:80", "same machine"),
            ("localhost:80", "same machine"),
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
        forever.instances[0].2 = false;
        assert!(only(&forever).contains("has no lease"));
        let mut orphan = contents(&[]);
        orphan.overrides.push(("api".into(), "gone".into(), None));
        assert!(only(&orphan).contains("no such instance"));
        let wrong = ("api".into(), "x".into(), Some("malformed".into()));
        orphan.overrides = vec![wrong];
        assert!(only(&orphan).contains("ignored: malformed"));
        let mut bad = contents(&[]);
        bad.bad = (0..30).map(|i| (format!("k{i}"), "no".into())).collect();
        let findings = examine(&bad, SystemTime::now());
        assert_eq!(findings.len(), MOST + 1);
        assert!(findings[MOST].what.starts_with("10 more"), "{findings:?}");
    }

    #[test]
    fn a_registration_in_the_future_is_found() {
        let codec = etcd_blocking::codec::by_name("native").unwrap();
        let value = br#"{"addr":"10.0.0.1:80","since":4000000000000,"status":"up"}"#;
        let decoded = codec.decode("/services/", b"/services/api/a", value);
        let instance = decoded.unwrap().unwrap();
        let mut future = contents(&[]);
        assert!(instance.since().is_some(), "{instance:?}");
        future.instances = vec![("/services/api/a".into(), instance, true)];
        assert!(only(&future).contains("in the future"));
    }
}

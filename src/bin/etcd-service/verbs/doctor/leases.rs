//! What is wrong with leases. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::finding::{Class, Finding, Severity};
use super::registry::{Contents, at_most};
use crate::output::counted;

/// An instance with a longer time to live stays too long after the end of its program.
const LONGEST: Duration = Duration::from_secs(600);

/// From so many leases without keys on, a program is likely to forget them.
const MANY: usize = 100;

/// A lease that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseFacts {
    pub(super) id: i64,
    pub(super) granted: Duration,
    pub(super) remaining: Duration,
    /// The number of keys, of any prefix.
    pub(super) keys: usize,
}

/// What is wrong with leases, and with the instances on them.
pub(super) fn examine(leases: &[LeaseFacts], contents: &Contents) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut instances: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for found in &contents.instances {
        if let Some(lease) = found.lease {
            instances.entry(lease).or_default().push(&found.key);
        }
    }
    let with_keys = leases.iter().filter_map(|lease| {
        let keys = instances.get(&lease.id)?;
        Some((lease, *keys.first()?, keys.len()))
    });
    let place = |key: &str, count: usize| match count {
        1 => key.to_owned(),
        _ => format!("{key} and {} more", count - 1),
    };
    at_most(
        with_keys.clone().filter(|(lease, ..)| is_late(lease)).map(|(lease, key, count)| {
            let what = format!(
                "its lease {:x} has {} s of {} s left: it is not renewed in time",
                lease.id,
                lease.remaining.as_secs(),
                lease.granted.as_secs()
            );
            Finding::warning(Class::Registry, place(key, count), what)
                .why("the program is gone, stopped or cut off, and the instance is removed when the lease ends")
                .advice("look at the program, and at the network between it and etcd")
        }),
        &mut findings,
    );
    at_most(
        with_keys
            .filter(|(lease, ..)| lease.granted > LONGEST)
            .map(|(lease, key, count)| {
                let what = format!(
                    "its lease {:x} was granted for {} s",
                    lease.id,
                    lease.granted.as_secs()
                );
                Finding::warning(Class::Registry, place(key, count), what)
                    .why("after a crash of the program, callers get the instance for that time")
                    .advice("register with a shorter time to live, such as --ttl 15s")
            }),
        &mut findings,
    );
    let empty: Vec<String> = leases
        .iter()
        .filter(|lease| lease.keys == 0)
        .map(|lease| format!("{:x}", lease.id))
        .collect();
    if !empty.is_empty() {
        let named = empty.iter().take(5).map(String::as_str);
        let named = named.collect::<Vec<_>>().join(", ");
        let severity = match empty.len() < MANY {
            true => Severity::Info,
            false => Severity::Warning,
        };
        let what = format!(
            "{} without a key, such as {named}",
            counted(empty.len(), "lease")
        );
        findings.push(
            Finding::new(severity, Class::Registry, "the leases", what)
                .why("each costs memory and renewals; a few are normal, as of programs that have just left")
                .advice("if the number grows, find the program that grants leases and forgets them"),
        );
    }
    findings
}

/// Programs renew when two thirds of the time are left; with less than a quarter, several renewals are missing.
fn is_late(lease: &LeaseFacts) -> bool {
    lease.remaining < lease.granted / 4
}

#[cfg(test)]
mod tests {
    use etcd_blocking::Instance;

    use super::super::registry::Found;
    use super::*;

    fn contents(leases: &[i64]) -> Contents {
        let found = |(index, lease): (usize, &i64)| Found {
            key: format!("/services/api/{index}"),
            instance: Instance::new("api", "10.0.0.1:80"),
            lease: Some(*lease),
        };
        Contents {
            instances: leases.iter().enumerate().map(found).collect(),
            ..Contents::default()
        }
    }

    fn lease(id: i64, granted: u64, remaining: u64, keys: usize) -> LeaseFacts {
        LeaseFacts {
            id,
            granted: Duration::from_secs(granted),
            remaining: Duration::from_secs(remaining),
            keys,
        }
    }

    #[test]
    fn leases_in_order_have_no_finding() {
        let leases = [lease(1, 15, 14, 1), lease(2, 15, 4, 1), lease(3, 60, 1, 4)];
        // The third has keys of other prefixes only.
        assert_eq!(examine(&leases, &contents(&[1, 2])), []);
    }

    #[test]
    fn late_long_and_empty_leases_are_found() {
        let leases = [
            lease(1, 15, 3, 2),
            lease(2, 3_600, 3_000, 1),
            lease(0x1f, 15, 10, 0),
        ];
        let findings = examine(&leases, &contents(&[1, 1, 2]));
        let whats: Vec<_> = findings.iter().map(|of| of.what.as_str()).collect();
        assert_eq!(
            whats,
            [
                "its lease 1 has 3 s of 15 s left: it is not renewed in time",
                "its lease 2 was granted for 3600 s",
                "1 lease without a key, such as 1f",
            ]
        );
        assert_eq!(findings[0].place, "/services/api/0 and 1 more");
        assert_eq!(findings[2].severity, Severity::Info);
        let many: Vec<_> = (1..=100).map(|id| lease(id, 15, 10, 0)).collect();
        assert_eq!(
            examine(&many, &contents(&[]))[0].severity,
            Severity::Warning
        );
    }
}

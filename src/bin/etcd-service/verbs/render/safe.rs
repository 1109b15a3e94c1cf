//! Which values from etcd can be in a configuration file. Pure.
//!
//! Anybody with permission to write a key decides what is in it. The ready templates put no text into a file that
//! could end a line, a word or a quotation of its syntax.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use etcd_blocking::Instance;

/// Whether a host is an IP address (without a zone) or a name of letters, digits, `.`, `-` and `_`.
pub(super) fn is_host(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok() || is_name(host)
}

/// Whether it is a name of letters, digits, `.`, `-` and `_`, of at most 253 characters, that begins with none of the
/// last three.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 253
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// The host and the port of an instance, if they can be in a configuration file.
pub(super) fn address(instance: &Instance) -> Option<(&str, u16)> {
    instance.host_and_port().filter(|(host, _)| is_host(host))
}

/// The names that are in use.
#[derive(Debug, Default)]
pub(super) struct Labels {
    used: BTreeSet<String>,
    /// The last number that a name got. Thousands of ids can become one name, and each would try all numbers.
    numbers: BTreeMap<String, u64>,
}

impl Labels {
    /// A name made of an id, with `_` for each other character, that is not in use.
    pub(super) fn of(&mut self, id: &str) -> String {
        let letters = id.chars().take(100).map(|c| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') => c,
            _ => '_',
        });
        let name: String = letters.collect();
        let name = match is_name(&name) {
            true => name,
            false => format!("i{name}"),
        };
        let mut unique = name.clone();
        while !self.used.insert(unique.clone()) {
            let number = self.numbers.entry(name.clone()).or_insert(1);
            *number += 1;
            unique = format!("{name}_{number}");
        }
        unique
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_and_plain_names() {
        for host in ["10.0.0.5", "::1", "web-1.example.com", "localhost", "a_b"] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "",
            "-x",
            ".x",
            "a b",
            "a;b",
            "a\nb",
            "a{b}",
            "a'b",
            "$x",
            "ü",
            "unix@x",
            "fe80::1%eth0;x",
            "a#",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn labels_are_names_and_differ() {
        let mut labels = Labels::default();
        for (id, expected) in [
            ("10.0.0.5:80", "10.0.0.5_80"),
            ("10.0.0.5_80", "10.0.0.5_80_2"),
            ("10.0.0.5 80", "10.0.0.5_80_3"),
            ("a\n}", "a__"),
            ("-x", "i-x"),
            ("", "i"),
            ("ü", "i_"),
        ] {
            let label = labels.of(id);
            assert_eq!(label, expected);
            assert!(is_name(&label));
        }
        // Of many ids, each has its label in a few steps.
        let last = (0..20_000).map(|_| labels.of("same")).last();
        assert_eq!(last.as_deref(), Some("same_20000"));
    }
}

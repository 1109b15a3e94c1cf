//! Labels and names of DNS. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::discovery::instance::Instance;

/// The longest label.
const LABEL_LENGTH: usize = 63;

/// Why a text is no label, as the end of a sentence that begins with it.
type Reason = &'static str;

/// Checks a label of a name that CoreDNS looks up: it converts the names of queries to lower case.
pub(super) fn check_label(label: &str) -> Result<(), Reason> {
    if label.is_empty() {
        Err("is empty")
    } else if label.len() > LABEL_LENGTH {
        Err("has more than 63 characters, the most of a DNS label")
    } else if label.starts_with('-') || label.ends_with('-') {
        Err("begins or ends with '-', which a DNS label must not")
    } else if label.bytes().all(|byte| is_lower(byte) || byte == b'_') {
        Ok(())
    } else {
        Err("is not a DNS label: use lower-case letters, digits and '-'")
    }
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Checks a host: an IP address, or a name of DNS.
pub(super) fn check_host(host: &str) -> Result<(), Reason> {
    if host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    if name.len() > 253 {
        Err("has more than 253 characters, the most of a DNS name")
    } else if last.bytes().all(|byte| byte.is_ascii_digit()) {
        Err("is neither an IP address nor a DNS name")
    } else if host.contains('%') {
        Err("has a zone, which DNS cannot express")
    } else {
        name.split('.')
            .try_for_each(|label| check_label(&label.to_ascii_lowercase()))
            .map_err(|_| "is neither an IP address nor a DNS name")
    }
}

/// The label of an instance in its service: its id if that is a label, its IPv4 address and port with `-`, or
/// what can be kept of the id and a hash of it.
pub(super) fn from_id(instance: &Instance) -> String {
    let id = &instance.id;
    // In a query "any" is a wildcard.
    if check_label(id).is_ok() && id != "any" {
        return id.clone();
    }
    let kept: String = id
        .bytes()
        .map(|byte| byte.to_ascii_lowercase())
        .map(|byte| {
            if is_lower(byte) {
                char::from(byte)
            } else {
                '-'
            }
        })
        .collect();
    let v4 = instance
        .host_and_port()
        .is_some_and(|(host, _)| host.parse::<Ipv4Addr>().is_ok());
    if v4 && *id == instance.addr {
        return kept;
    }
    let kept = kept.get(..LABEL_LENGTH - 9).unwrap_or(&kept);
    let hash = hash(id);
    match kept.trim_matches('-') {
        "" => format!("{hash:08x}"),
        kept => format!("{kept}-{hash:08x}"),
    }
}

/// FNV-1a: it must be the same in every version of this program, because it is part of a key.
fn hash(text: &str) -> u32 {
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_checked() {
        for label in ["a", "web-1", "_http", "0", &"a".repeat(63)] {
            assert_eq!(check_label(label), Ok(()), "{label}");
        }
        for label in [
            "",
            "-a",
            "a-",
            "Web",
            "a.b",
            "a b",
            "é",
            "*",
            "a:1",
            &"a".repeat(64),
        ] {
            assert!(check_label(label).is_err(), "{label}");
        }
    }

    #[test]
    fn hosts_are_checked() {
        let long = ["a".repeat(63).as_str(); 4].join(".");
        for host in [
            "10.0.0.1",
            "::1",
            "localhost",
            "Web.example.com.",
            "a_b.c",
            &long[..253],
        ] {
            assert_eq!(check_host(host), Ok(()), "{host}");
        }
        for host in [
            "",
            ".",
            "10.0.0.256",
            "1.2",
            "a..b",
            "fe80::1%eth0",
            "-a.b",
            "a b",
            &long,
        ] {
            assert!(check_host(host).is_err(), "{host}");
        }
    }

    #[test]
    fn a_label_is_made_from_an_id() {
        let label = |addr: &str, id: &str| from_id(&Instance::new("web", addr).id(id));
        assert_eq!(label("10.0.0.5:80", "10.0.0.5:80"), "10-0-0-5-80");
        assert_eq!(label("a:1", "web-1"), "web-1");
        assert_eq!(label("a:1", "Web-1"), "web-1-9c73f23f");
        assert_ne!(label("a:1", "a.b"), label("a:1", "a_b."));
        assert_eq!(label("a:1", "é"), format!("{:08x}", hash("é")));
    }

    proptest! {
        #[test]
        fn every_id_has_a_valid_label(id in ".{1,100}", v4 in any::<[u8; 4]>()) {
            prop_assert_eq!(check_label(&from_id(&Instance::new("web", "a:1").id(id))), Ok(()));
            let addr = format!("{}:65535", Ipv4Addr::from(v4));
            prop_assert_eq!(check_label(&from_id(&Instance::new("web", addr))), Ok(()));
        }
    }
}

//! Parses and checks the address of an instance. Pure.

use std::net::{IpAddr, Ipv6Addr};

/// The reason why an address cannot be registered, as the end of a sentence that begins with the address.
pub(super) type Reason = &'static str;

const UNREACHABLE: Reason = "is where a server listens, not where others can reach it; \
     register the address of this machine that they can reach, such as 10.0.0.5:8080";
const NO_PORT: Reason = "is not host:port with a port from 1 to 65535";
const BARE_V6: Reason =
    "has more than one colon; an IPv6 address must be in brackets, such as [2001:db8::1]:8080";
const BAD_V6: Reason = "has brackets around something that is not an IPv6 address";
const BAD_HOST: Reason = "has no valid host name before the port";

/// Returns the host (an IPv6 address without its brackets) and the port of an address, or why the
/// address cannot be registered.
///
/// Loopback is accepted, because it is valid for programs on one machine.
pub(super) fn parse(addr: &str) -> Result<(&str, u16), Reason> {
    let (host, port) = addr.rsplit_once(':').ok_or(NO_PORT)?;
    // `u16::from_str` accepts a leading plus sign, which other programs do not.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|_| digits).ok_or(NO_PORT)?;
    if port == 0 {
        return Err(NO_PORT);
    }
    let host = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => v6(inner)?,
        None => name(host)?,
    };
    match host.parse::<IpAddr>() {
        // Also the IPv4-mapped form, `::ffff:0.0.0.0`.
        Ok(ip) if ip.to_canonical().is_unspecified() => Err(UNREACHABLE),
        _ => Ok((host, port)),
    }
}

/// An IPv6 address, with a zone (`fe80::1%eth0`) if it has one.
fn v6(inner: &str) -> Result<&str, Reason> {
    let ip = inner.split_once('%').map_or(inner, |(ip, _zone)| ip);
    match ip.parse::<Ipv6Addr>() {
        Ok(_) if plain(inner) => Ok(inner),
        _ => Err(BAD_V6),
    }
}

fn name(host: &str) -> Result<&str, Reason> {
    if host.starts_with("http:") || host.starts_with("https:") {
        Err("is a URL; the address is host:port only, and a URL goes into an endpoint")
    } else if host.contains(':') {
        Err(BARE_V6)
    } else if host.is_empty() || !plain(host) {
        Err(BAD_HOST)
    } else {
        Ok(host)
    }
}

/// Whether a host has no characters that are invalid in a host name, a key or a URL.
fn plain(host: &str) -> bool {
    !host.contains(|c: char| c.is_control() || c.is_whitespace() || "/\\[]@?#\"".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reachable_addresses_are_accepted() {
        for (addr, host, port) in [
            ("127.0.0.1:8080", "127.0.0.1", 8080),
            ("localhost:1", "localhost", 1),
            ("[::1]:65535", "::1", 65535),
            ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
            ("web-1.example.com:443", "web-1.example.com", 443),
        ] {
            assert_eq!(parse(addr), Ok((host, port)), "{addr}");
        }
    }

    #[test]
    fn an_unspecified_address_is_refused_with_advice() {
        for addr in [
            "0.0.0.0:80",
            "[::]:80",
            "[0:0::0]:80",
            "[::ffff:0.0.0.0]:80",
        ] {
            let reason = parse(addr).unwrap_err();
            assert!(reason.contains("others can reach"), "{addr}: {reason}");
        }
    }

    #[test]
    fn an_address_without_host_or_port_is_refused() {
        for (addr, reason) in [
            ("", NO_PORT),
            ("web", NO_PORT),
            ("web:", NO_PORT),
            ("web:0", NO_PORT),
            ("web:+80", NO_PORT),
            ("web:65536", NO_PORT),
            ("web:http", NO_PORT),
            (":80", BAD_HOST),
            ("we b:80", BAD_HOST),
            ("web\n:80", BAD_HOST),
            ("a/b:80", BAD_HOST),
            ("::1:80", BARE_V6),
            ("[web]:80", BAD_V6),
            ("[::1%a/b]:80", BAD_V6),
            ("[::1:80", BARE_V6),
        ] {
            assert_eq!(parse(addr), Err(reason), "{addr:?}");
        }
        assert!(parse("http://web:80").unwrap_err().contains("URL"));
    }
}

//! Checks peer URLs before they are sent: a member with a wrong one can never start.

use crate::error::{Error, Result};

/// Refuses a list of peer URLs that etcd would not accept. Each has a scheme of `http`, `https`, `unix`
/// or `unixs`, a host with a port (a path for sockets), and nothing else.
pub(super) fn check(urls: &[String]) -> Result<()> {
    if urls.is_empty() {
        return Err(Error::invalid("a member needs at least one peer URL"));
    }
    for url in urls {
        check_one(url).map_err(|why| Error::invalid(format!("peer URL {url:?}: {why}")))?;
    }
    Ok(())
}

fn check_one(url: &str) -> Result<(), &'static str> {
    // A wrong peer URL is checked here, because a member with one can stop a cluster.
    if url.trim() != url || url.chars().any(char::is_control) {
        return Err("it contains blanks or control characters");
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("it has no scheme: http, https, unix or unixs, and ://");
    };
    match scheme {
        "unix" | "unixs" if rest.is_empty() => return Err("it has no socket path"),
        "unix" | "unixs" => return Ok(()),
        "http" | "https" => {}
        _ => return Err("the scheme must be http, https, unix or unixs"),
    }
    // etcd accepts a slash at the end.
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err("it must not have a path");
    }
    // etcd would show them to every client in the member list.
    if authority.contains('@') {
        return Err("it must not have credentials");
    }
    let Some((host, port)) = authority.rsplit_once(':') else {
        return Err("it has no port");
    };
    if port.parse::<u16>().is_err() {
        return Err("the port is not a number below 65536");
    }
    match host.strip_prefix('[') {
        Some(inner) => {
            let address = inner.strip_suffix(']').unwrap_or_default();
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("the part in brackets is not an IPv6 address");
            }
        }
        None if host.is_empty() => return Err("it has no host"),
        None if host.contains(':') => return Err("an IPv6 address must be in brackets"),
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_urls_pass() {
        for url in [
            "http://10.0.0.1:2380",
            "https://etcd-1.example:2380",
            "http://10.0.0.1:2380/",
            "http://[::1]:2380",
            "unix:///run/etcd.sock",
            "unixs://localhost:1",
        ] {
            assert_eq!(check_one(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn malformed_urls_are_refused() {
        for url in [
            "",
            "http://",
            "://127.0.0.1:12345",
            "mailto://127.0.0.1:12345",
            "http://127.0.0.1",
            "http://127.0.0.1:12345/path",
            "http://127.0.0.1:12345?q",
            "127.0.0.1:12345",
            "http://:12345",
            "http://127.0.0.1:port",
            "http://::1:2380",
            "http://user:pw@127.0.0.1:2380",
            " http://127.0.0.1:2380",
            "unix://",
        ] {
            assert!(check_one(url).is_err(), "{url}");
        }
        assert!(check(&[]).is_err());
    }

    #[test]
    fn blanks_around_a_url_and_control_characters_in_it_are_refused() {
        for url in [" http://a:2380", "http://a:2380 ", "http://a\u{7}b:2380"] {
            let refused = check_one(url).unwrap_err();
            assert!(refused.contains("blanks"), "{url:?}: {refused}");
        }
    }
}

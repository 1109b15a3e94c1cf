//! Parses the endpoints of etcd servers.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result, printable};

/// A parsed endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The normalized text with the scheme, as errors show it.
    pub(crate) text: Arc<str>,
    pub(crate) address: Address,
    /// The `:authority` of every request.
    pub(crate) authority: String,
    pub(crate) secure: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Endpoint {
    /// Parses `http://host:port`, `https://host:port`, `host:port`, `unix:path` or `unixs:path`.
    ///
    /// As in clientv3, a path after the port is ignored, and an endpoint without `http` or `https`
    /// uses TLS when `tls` is set. Schemes are case-insensitive, and an IPv6 address may have a
    /// zone. Unlike clientv3, this function rejects a missing port, a list of endpoints,
    /// credentials in the URL and an unknown scheme.
    pub(crate) fn parse(text: &str, tls: bool) -> Result<Self> {
        let text = text.trim();
        let wrong = |why: &str| {
            Err(Error::invalid(format!(
                "endpoint {:?}: {why}",
                redacted(text)
            )))
        };
        if text.is_empty() {
            return wrong("it is empty; write an endpoint such as http://127.0.0.1:2379");
        }
        if let Some(path) = socket_path(text, "unix:") {
            return Endpoint::unix(text, path, tls);
        }
        if let Some(path) = socket_path(text, "unixs:") {
            return Endpoint::unix(text, path, true);
        }
        let (secure, rest) = match text.split_once("://") {
            None => (tls, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return wrong("the scheme must be http, https, unix or unixs"),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // Not only in the authority: a password may contain a slash, and its beginning would be read as the port.
        if rest.contains('@') {
            return wrong("credentials do not belong in an endpoint; pass them to the client");
        }
        if text.contains(',') {
            return wrong("it is a list; pass each endpoint separately");
        }
        let (host, port) = match split_port(authority) {
            Ok(split) => split,
            Err(why) => return wrong(&why),
        };
        let (name, zone) = match check_host(host) {
            Ok(checked) => checked,
            Err(why) => return wrong(why),
        };
        let scheme = if secure { "https" } else { "http" };
        Ok(Endpoint {
            text: format!("{scheme}://{authority}").into(),
            address: Address::Tcp {
                host: name.to_owned(),
                port,
            },
            // A zone is only meaningful on this machine (RFC 6874, section 4).
            authority: authority.replacen(zone, "", 1),
            secure,
        })
    }

    /// Whether traffic can be read on the network: TCP without TLS.
    pub(crate) fn is_plaintext(&self) -> bool {
        matches!(self.address, Address::Tcp { .. }) && !self.secure
    }

    /// The authority of a socket file is its file name, as in clientv3.
    fn unix(text: &str, path: &str, secure: bool) -> Result<Self> {
        let shown = redacted(text);
        if cfg!(not(unix)) {
            return Err(Error::invalid(format!(
                "endpoint {shown:?}: unix sockets are not supported on this system; use http or https"
            )));
        }
        if path.is_empty() || path.ends_with('/') {
            return Err(Error::invalid(format!(
                "endpoint {shown:?}: it does not name a socket file"
            )));
        }
        // The path is shown in errors, and may be that of a member, as the cluster reports it.
        if printable(path) != path {
            return Err(Error::invalid(format!(
                "endpoint {shown:?}: its path is too long, or has a character that cannot be shown"
            )));
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        Ok(Endpoint {
            text: match secure {
                true => format!("unixs:{path}").into(),
                false => format!("unix:{path}").into(),
            },
            address: Address::Unix(path.into()),
            authority: name.to_owned(),
            secure,
        })
    }

    /// The name that the server's certificate must be valid for: the host, or the name of a socket
    /// file up to its colon, as in clientv3.
    #[cfg(feature = "__tls")]
    pub(crate) fn host(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host.split('%').next().unwrap_or_default(),
            Address::Unix(_) => self.authority.split(':').next().unwrap_or_default(),
        }
    }
}

/// The endpoint text as the user wrote it. Its `Debug` output hides credentials.
#[derive(Clone)]
pub(crate) struct Written(pub(crate) String);

impl AsRef<str> for Written {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*redacted(&self.0), f)
    }
}

/// The text without a user name and password, which endpoints must not contain.
fn redacted(text: &str) -> Cow<'_, str> {
    match text.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(format!("***@{host}")),
        None => Cow::Borrowed(text),
    }
}

/// Returns whether the text has the scheme of a socket file.
pub(crate) fn is_socket(text: &str) -> bool {
    socket_path(text, "unix:").is_some() || socket_path(text, "unixs:").is_some()
}

fn socket_path<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(scheme.len())?;
    if !start.eq_ignore_ascii_case(scheme) {
        return None;
    }
    Some(rest.strip_prefix("//").unwrap_or(rest))
}

/// Splits an authority into the host with its brackets and the port.
fn split_port(authority: &str) -> std::result::Result<(&str, u16), String> {
    let split = authority.rsplit_once(':');
    let (host, port) = match split.filter(|(_, port)| !port.ends_with(']')) {
        Some(split) => split,
        None => {
            let authority = printable(authority);
            return Err(format!(
                "it has no port; write {authority}:2379, etcd's default"
            ));
        }
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(String::from(
            "an IPv6 address belongs in brackets, such as http://[::1]:2379",
        ));
    }
    // `u16::from_str` accepts a leading plus sign.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(number @ 1..) if digits => Ok((host, number)),
        _ => Err(format!(
            "{port:?} is not a number from 1 to 65535; it needs a port, such as 2379"
        )),
    }
}

/// The host without brackets, and the zone of an IPv6 address with its percent sign.
fn check_host(host: &str) -> std::result::Result<(&str, &str), &'static str> {
    const BAD_V6: &str = "the part in brackets is not an IPv6 address, such as [::1]";
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(BAD_V6)?;
        let at = inner.find('%').unwrap_or(inner.len());
        let (ip, zone) = inner.split_at_checked(at).unwrap_or((inner, ""));
        let is_zone = zone.is_empty() || zone.len() > 1 && is_plain(zone.trim_start_matches('%'));
        return match ip.parse::<std::net::Ipv6Addr>() {
            Ok(_) if is_zone => Ok((inner, zone)),
            _ => Err(BAD_V6),
        };
    }
    match host {
        "" => Err("it needs a host before the port"),
        _ if is_plain(host) => Ok((host, "")),
        _ => Err("the host contains an invalid character"),
    }
}

/// Whether the text has only letters, digits and the other characters of host names.
fn is_plain(host: &str) -> bool {
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    host.chars().all(fine)
}

/// Parses a list of endpoints and checks that they can be used together. `tls` decides for
/// endpoints that do not state whether they use TLS.
pub(crate) fn parse_all<T: AsRef<str>>(
    texts: impl IntoIterator<Item = T>,
    tls: bool,
) -> Result<Vec<Endpoint>> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for text in texts {
        let endpoint = Endpoint::parse(text.as_ref(), tls)?;
        if !endpoints.iter().any(|known| known.text == endpoint.text) {
            endpoints.push(endpoint);
        }
    }
    let find = |secure| endpoints.iter().find(|one| one.secure == secure);
    match (find(true), find(false)) {
        (None, None) => Err(Error::invalid(
            "no endpoint given: name at least one, such as http://127.0.0.1:2379",
        )),
        (Some(secure), Some(clear)) => Err(Error::invalid(format!(
            "endpoints with and without TLS cannot be mixed: {} and {}",
            secure.text, clear.text
        ))),
        (Some(secure), None) if cfg!(not(feature = "__tls")) => Err(Error::invalid(format!(
            "{} needs TLS, and etcd-blocking was built without its feature `tls`",
            secure.text
        ))),
        _ => Ok(endpoints),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Case: CN-14, CN-15
    // Fault: N14
    #[test]
    fn every_form_of_an_endpoint_is_parsed() {
        let cases = [
            (
                "http://10.0.0.1:2379",
                "http://10.0.0.1:2379",
                "10.0.0.1:2379",
            ),
            (" 10.0.0.1:2379 ", "http://10.0.0.1:2379", "10.0.0.1:2379"),
            (
                "etcd.example:2379",
                "http://etcd.example:2379",
                "etcd.example:2379",
            ),
            ("http://[::1]:2379/v3?x", "http://[::1]:2379", "[::1]:2379"),
            ("https://a:1", "https://a:1", "a:1"),
            ("HTTP://a:1", "http://a:1", "a:1"),
            ("Https://a:1?x=1", "https://a:1", "a:1"),
            ("UNIX:/run/e", "unix:/run/e", "e"),
            (
                "[fe80::1%eth0]:2379",
                "http://[fe80::1%eth0]:2379",
                "[fe80::1]:2379",
            ),
            ("unixs:localhost:1", "unixs:localhost:1", "localhost:1"),
            ("unix:run/etcd.sock", "unix:run/etcd.sock", "etcd.sock"),
            (
                "unix:///run/localhost:1",
                "unix:/run/localhost:1",
                "localhost:1",
            ),
        ];
        for (text, shown, authority) in cases {
            let endpoint = Endpoint::parse(text, false).unwrap();
            assert_eq!(
                (&*endpoint.text, &*endpoint.authority),
                (shown, authority),
                "{text}"
            );
        }
    }

    #[test]
    fn an_endpoint_without_a_scheme_takes_that_of_the_others() {
        let parse = |text, secure| Endpoint::parse(text, secure).unwrap().secure;
        assert!(parse("a:1", true) && !parse("a:1", false));
        assert!(!parse("http://a:1", true) && parse("https://a:1", false));
        assert!(parse("unix:/a", true) && !parse("unix:/a", false));
    }

    // Fault: N14
    #[test]
    fn invalid_endpoints_are_refused_with_the_reason() {
        let cases = [
            ("", "empty"),
            ("http://host", "no port"),
            ("host:port", "not a number"),
            ("h:+2379", "not a number"),
            ("127.0.0.1:0", "not a number"),
            ("[::1]", "write [::1]:2379"),
            ("http://h :1", "character"),
            ("a:1,b:2", "a list"),
            ("[fe80::1%]:1", "IPv6"),
            ("http://user:pw@host:1", "credentials"),
            ("http://::1:2379", "brackets"),
            ("http://[::1", "no port|brackets|IPv6"),
            ("http://[zz]:1", "IPv6"),
            ("ftp://host:1", "scheme"),
            ("http://:1", "host"),
            ("unix:", "socket"),
        ];
        for (text, reason) in cases {
            let error = Endpoint::parse(text, false).unwrap_err().to_string();
            assert!(
                reason.split('|').any(|part| error.contains(part)),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn no_error_depends_on_credentials_even_with_delimiters() {
        for password in [
            "secret", "sec/ret", "sec?ret", "sec#ret", "sec:ret", "sec@ret", "/", ":7", "[secret",
        ] {
            for (scheme, place) in [
                ("http://", "h:1"),
                ("", "h"),
                ("https://", "h:1/path"),
                ("ftp://", ""),
            ] {
                let text = format!("{scheme}root:{password}@{place}");
                let error = Endpoint::parse(&text, false).unwrap_err().to_string();
                assert!(
                    !error.contains("root") && !error.contains("sec"),
                    "{text}: {error}"
                );
                assert!(
                    error.contains("credentials") || scheme == "ftp://",
                    "{text}: {error}"
                );
            }
        }
        // It could be the end of a password that begins with a port.
        assert!(Endpoint::parse("http://h:1/a@b", false).is_err());
    }

    #[test]
    fn the_endpoints_of_a_list_are_checked_together() {
        let refused = |texts: &[&str], tls| parse_all(texts, tls).unwrap_err().to_string();
        assert!(parse_all::<&str>([], false).is_err());
        for mixed in [
            ["http://a:1", "https://b:1"],
            ["unixs:/run/a", "b:1"],
            ["unix:/run/a", "https://b:1"],
        ] {
            assert!(refused(&mixed, false).contains("mixed"), "{mixed:?}");
        }
        let order = refused(&["http://a:1", "https://b:1"], false);
        assert!(order.ends_with("https://b:1 and http://a:1"), "{order}");
        #[cfg(feature = "__tls")]
        assert_eq!(parse_all(["https://b:1", "c:1"], true).unwrap().len(), 2);
        assert_eq!(parse_all(["a:1", "http://a:1"], false).unwrap().len(), 1);
        #[cfg(not(feature = "__tls"))]
        assert!(refused(&["https://b:1"], false).contains("feature `tls`"));
    }

    // Fault: Q15
    #[test]
    fn an_error_has_no_credentials() {
        for text in [
            "unix://user:canary@h/",
            "unixs:canary@\u{1b}",
            "canary@h",
            "ftp://canary@h",
        ] {
            let error = Endpoint::parse(text, false).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    // Fault: Q13
    #[test]
    fn an_error_has_no_control_characters() {
        for text in [
            "\u{1b}[2J",
            "h\n:x",
            "[\u{202e}]:1",
            "http://h\0/x",
            "unix:/\u{1b}a",
        ] {
            let error = Endpoint::parse(text, false).unwrap_err().to_string();
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn an_endpoint_without_a_scheme_follows_the_tls_settings() {
        for (text, shown) in [
            ("a:1", "https://a:1"),
            ("unix:/run/a", "unixs:/run/a"),
            ("unixs:///run/a", "unixs:/run/a"),
        ] {
            let endpoint = Endpoint::parse(text, true).unwrap();
            assert_eq!((&*endpoint.text, endpoint.secure), (shown, true));
        }
        assert!(!Endpoint::parse("http://a:1", true).unwrap().secure);
    }

    #[cfg(feature = "__tls")]
    #[test]
    fn the_verified_name_is_the_host_or_the_socket_file_without_a_port() {
        for (text, host) in [
            ("https://etcd.example:2379", "etcd.example"),
            ("https://[::1]:2379", "::1"),
            ("unixs:localhost:1234", "localhost"),
            ("unixs:///run/etcd.sock:0", "etcd.sock"),
        ] {
            assert_eq!(Endpoint::parse(text, false).unwrap().host(), host);
        }
    }

    #[test]
    fn credentials_of_an_endpoint_are_not_printed() {
        let written = |text: &str| format!("{:?}", Written(text.to_owned()));
        assert_eq!(written("http://user:pw@h:1"), "\"***@h:1\"");
        assert_eq!(written("http://h:1"), "\"http://h:1\"");
    }

    #[test]
    fn only_tcp_without_tls_can_be_read_on_the_network() {
        let plaintext = |text: &str, secure| Endpoint::parse(text, secure).unwrap().is_plaintext();
        assert!(plaintext("http://h:1", false));
        assert!(!plaintext("https://h:1", false));
        #[cfg(unix)]
        assert!(!plaintext("unix:///run/etcd.sock", false));
    }
}

//! Addresses of etcd: how they are written, and what that means.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};

/// One address of etcd, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// As errors show it: with its scheme.
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
    /// Reads `http://host:port`, `https://host:port`, `host:port`, `unix:path` or `unixs:path`.
    ///
    /// As in clientv3, a path behind the port is ignored, and what leaves it open whether it is under
    /// TLS (`host:port`, `unix:path`) is when `tls` settings are given. Unlike there, what cannot be
    /// meant is refused here and now: no port, a name and password in the URL, an unknown scheme.
    pub(crate) fn parse(text: &str, tls: bool) -> Result<Self> {
        let text = text.trim();
        let wrong = |why: &str| Err(Error::invalid(format!("endpoint {:?}: {why}", shown(text))));
        if text.is_empty() {
            return wrong("it is empty");
        }
        if let Some(path) = socket_path(text, "unix:") {
            return Endpoint::unix(text, path, tls);
        }
        if let Some(path) = socket_path(text, "unixs:") {
            return Endpoint::unix(text, path, true);
        }
        let (secure, rest) = match text.split_once("://") {
            None => (tls, text),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return wrong("the scheme must be http, https, unix or unixs"),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return wrong("credentials do not belong in an endpoint");
        }
        let Some((host, port)) = authority.rsplit_once(':') else {
            return wrong("it has no port (etcd listens on 2379 unless told otherwise)");
        };
        let Ok(port) = port.parse::<u16>() else {
            return wrong("the port is not a number below 65536");
        };
        let name = match host.strip_prefix('[') {
            Some(inner) => match inner.strip_suffix(']').map(|v6| (v6, v6.parse())) {
                Some((v6, Ok::<std::net::Ipv6Addr, _>(_))) => v6,
                _ => return wrong("the part in brackets is not an IPv6 address"),
            },
            None if host.contains(':') => return wrong("an IPv6 address belongs in brackets"),
            None => host,
        };
        if name.is_empty() || port == 0 {
            return wrong("it needs a host and a port");
        }
        let scheme = if secure { "https" } else { "http" };
        Ok(Endpoint {
            text: format!("{scheme}://{authority}").into(),
            address: Address::Tcp {
                host: name.to_owned(),
                port,
            },
            authority: authority.to_owned(),
            secure,
        })
    }

    /// Whether others could read along: TCP without TLS.
    pub(crate) fn is_plaintext(&self) -> bool {
        matches!(self.address, Address::Tcp { .. }) && !self.secure
    }

    /// The authority of a socket file is its name, as in clientv3.
    fn unix(text: &str, path: &str, secure: bool) -> Result<Self> {
        if path.is_empty() || path.ends_with('/') {
            return Err(Error::invalid(format!(
                "endpoint {text:?}: it names no socket file"
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

    /// What the server's certificate is to be for: the host, or the name of a socket file up to its
    /// colon, as in clientv3.
    #[cfg(feature = "__tls")]
    pub(crate) fn host(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host,
            Address::Unix(_) => self.authority.split(':').next().unwrap_or_default(),
        }
    }
}

/// An endpoint as its user wrote it, and as it is shown.
#[derive(Clone)]
pub(crate) struct Written(pub(crate) String);

impl AsRef<str> for Written {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*shown(&self.0), f)
    }
}

/// Without what may be a name and a password: they are refused, and not repeated.
fn shown(text: &str) -> Cow<'_, str> {
    match text.rsplit_once('@') {
        Some((_, behind)) => Cow::Owned(format!("***@{behind}")),
        None => Cow::Borrowed(text),
    }
}

fn socket_path<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(scheme)?;
    Some(rest.strip_prefix("//").unwrap_or(rest))
}

/// Reads a list of endpoints, and refuses one that cannot work as a whole. `tls`: what
/// those are that leave it open.
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
    #[test]
    fn every_way_of_writing_one() {
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
    fn one_without_a_scheme_takes_that_of_the_others() {
        let parse = |text, secure| Endpoint::parse(text, secure).unwrap().secure;
        assert!(parse("a:1", true) && !parse("a:1", false));
        assert!(!parse("http://a:1", true) && parse("https://a:1", false));
        assert!(!parse("unix:/a", true));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        let cases = [
            ("", "empty"),
            ("http://host", "no port"),
            ("host:port", "not a number"),
            ("http://user:pw@host:1", "credentials"),
            ("http://::1:2379", "brackets"),
            ("http://[::1", "no port|brackets"),
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
    fn a_list_is_checked_as_a_whole() {
        let refused = |texts: &[&str], tls| parse_all(texts, tls).unwrap_err().to_string();
        assert!(parse_all::<&str>([], false).is_err());
        for mixed in [
            ["http://a:1", "https://b:1"],
            ["unixs:/run/a", "b:1"],
            ["unix:/run/a", "https://b:1"],
        ] {
            assert!(refused(&mixed, false).contains("mixed"), "{mixed:?}");
        }
        assert_eq!(parse_all(["a:1", "http://a:1"], false).unwrap().len(), 1);
        #[cfg(not(feature = "__tls"))]
        assert!(refused(&["https://b:1"], false).contains("feature `tls`"));
    }

    #[test]
    fn what_leaves_tls_open_follows_the_settings() {
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
    fn the_name_to_verify_is_the_host_s_or_the_file_s_without_a_port() {
        for (text, host) in [
            ("https://etcd.example:2379", "etcd.example"),
            ("https://[::1]:2379", "::1"),
            ("unixs:localhost:1234", "localhost"),
            ("unixs:///run/etcd.sock:0", "etcd.sock"),
        ] {
            assert_eq!(Endpoint::parse(text, false).unwrap().host(), host);
        }
    }
}

//! Reads the URL of an HTTP probe. Pure.

use std::net::Ipv6Addr;

use http::Uri;

use super::question::{HttpExpectation, Probe, Question};

impl Probe {
    /// Creates a probe of this URL, or returns why the URL cannot be probed, as the end of a sentence
    /// that begins with it.
    pub(crate) fn http(url: &str, expected: HttpExpectation) -> Result<Probe, String> {
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("is not a URL: {error}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "needs TLS, which health checks do not support: use Check::run with an \
                            HTTPS client"
                        .into(),
                );
            }
            _ => return Err("does not begin with http://".into()),
        }
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err(
                "has a user name, which would be published with the name of the check".into(),
            );
        }
        let host = authority.host();
        let inner = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host = inner.unwrap_or(host);
        // The zone of an address is checked when it is dialled.
        let address = host.split('%').next().unwrap_or_default();
        let is_address = address.parse::<Ipv6Addr>().is_ok();
        if inner.is_some() && !is_address || inner.is_none() && host.contains(['[', ']', ':']) {
            return Err("has something in brackets that is not an IPv6 address".into());
        }
        if host.is_empty() {
            return Err("has no host".into());
        }
        let port = match authority.port() {
            None => 80,
            Some(port) => port.as_u16(),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // A query may follow the host directly.
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Probe {
            host: host.to_owned(),
            port,
            question: Question::Get {
                path: format!("{slash}{path}"),
                expected,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<(String, u16, String), String> {
        let expected = HttpExpectation {
            status: 200..=299,
            body: None,
        };
        let probe = Probe::http(url, expected)?;
        match probe.question {
            Question::Get { path, .. } => Ok((probe.host, probe.port, path)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_url_has_a_host_a_port_and_a_path_with_its_query() {
        let read = |url| read(url).unwrap();
        let parts = |host: &str, port, path: &str| (host.to_owned(), port, path.to_owned());
        assert_eq!(read("http://a.example"), parts("a.example", 80, "/"));
        assert_eq!(
            read("http://10.0.0.5:8080/h?x=1"),
            parts("10.0.0.5", 8080, "/h?x=1")
        );
        assert_eq!(read("http://[::1]:90/#part"), parts("::1", 90, "/"));
        assert_eq!(read("HTTP://h?x"), parts("h", 80, "/?x"));
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        let refused = |url| read(url).unwrap_err();
        assert!(refused("https://a/").contains("Check::run"));
        assert!(refused("ftp://a/").contains("http://"));
        assert!(refused("a:80").contains("http://"));
        assert!(refused("").contains("is not a URL"));
        assert!(refused("http://u:p@a/").contains("user name"));
        assert!(refused("http://a/b c").contains("is not a URL"));
        assert!(refused("http://").contains("is not a URL"));
        for url in [
            "http://[fe80]:80/",
            "http://[10.0.0.1]/",
            "http://[fe8%25eth0]/",
            "http://a[::1]/",
        ] {
            assert!(refused(url).contains("IPv6"), "{url}");
        }
    }
}

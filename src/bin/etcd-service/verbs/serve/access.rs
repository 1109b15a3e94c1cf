//! Which requests are allowed. Pure.

use super::http::{BadRequest, Request};
use super::token::Token;

/// The header that a request must have which changes something. No page of another site can send it.
pub(super) const CHANGE_HEADER: &str = "x-etcd-service";

/// Which requests are allowed.
#[derive(Debug)]
pub(super) struct Access {
    token: Option<Token>,
    /// The accepted names of the header Host, without ports. `None` accepts all.
    hosts: Option<Vec<String>>,
}

impl Access {
    /// A listener that only this machine reaches accepts the names of this machine and `names`. Otherwise a page of
    /// another site could read it by a name of its own that leads here.
    pub(super) fn new(token: Option<Token>, is_local: bool, names: Vec<String>) -> Self {
        let mut hosts: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if is_local {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        }
        Access {
            token,
            hosts: (!hosts.is_empty()).then_some(hosts),
        }
    }

    /// Checks the name under which the client reached the server.
    pub(super) fn check_host(&self, request: &Request) -> Result<(), BadRequest> {
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        let host = request.header("host").unwrap_or_default();
        let host = host_without_port(host).to_ascii_lowercase();
        match hosts.contains(&host) {
            true => Ok(()),
            false => Err(BadRequest(
                421,
                "the server is not known under this name; --host NAME accepts it",
            )),
        }
    }

    /// Checks the token.
    pub(super) fn check_token(&self, request: &Request) -> Result<(), BadRequest> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        match request.header("authorization") {
            Some(authorization) if token.is_in(authorization) => Ok(()),
            Some(_) => Err(BadRequest(401, "the token is wrong")),
            None => Err(BadRequest(
                401,
                "a token is needed: Authorization: Bearer TOKEN",
            )),
        }
    }

    /// Checks that no page of another site sent a request that changes something.
    pub(super) fn check_change(&self, request: &Request) -> Result<(), BadRequest> {
        let from_elsewhere = request.header("origin").is_some_and(|origin| {
            let host = request.header("host").unwrap_or_default();
            let origin = origin.split_once("://").map_or("", |(_, origin)| origin);
            !origin.eq_ignore_ascii_case(host)
        });
        if from_elsewhere {
            return Err(BadRequest(403, "the request comes from another site"));
        }
        match request.header(CHANGE_HEADER) {
            Some(_) => Ok(()),
            None => Err(BadRequest(403, "changes need the header X-Etcd-Service: 1")),
        }
    }
}

fn host_without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address are within brackets.
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::serve::http::Request;

    fn request(headers: &str) -> Request {
        Request::sample(&format!("POST / HTTP/1.1\r\n{headers}\r\n"))
    }

    fn local() -> Access {
        Access::new(None, true, vec!["Page.example".into()])
    }

    #[test]
    fn a_local_server_is_known_by_local_names_only() {
        for host in [
            "localhost",
            "localhost:9180",
            "LOCALHOST:1",
            "127.0.0.1:9180",
            "[::1]:9180",
            "[::1]",
            "page.example",
            "page.example:80",
        ] {
            let request = request(&format!("Host: {host}\r\n"));
            assert_eq!(local().check_host(&request), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9180",
            "127.0.0.1.evil.example",
            "::1",
        ] {
            let request = request(&format!("Host: {host}\r\n"));
            assert_eq!(local().check_host(&request).unwrap_err().0, 421, "{host}");
        }
    }

    #[test]
    fn a_server_with_a_token_is_known_by_every_name_unless_names_are_given() {
        let request = request("Host: anything\r\n");
        let access = Access::new(None, false, Vec::new());
        assert_eq!(access.check_host(&request), Ok(()));
        let access = Access::new(None, false, vec!["other".into()]);
        assert!(access.check_host(&request).is_err());
    }

    #[test]
    fn changes_need_a_header_that_other_sites_cannot_send() {
        for (headers, expected) in [
            ("Host: a:1\r\nX-Etcd-Service: 1\r\n", Ok(())),
            (
                "Host: a:1\r\nOrigin: http://a:1\r\nX-Etcd-Service: 1\r\n",
                Ok(()),
            ),
            ("Host: a:1\r\n", Err(403)),
            (
                "Host: a:1\r\nOrigin: http://b:1\r\nX-Etcd-Service: 1\r\n",
                Err(403),
            ),
            (
                "Host: a:1\r\nOrigin: null\r\nX-Etcd-Service: 1\r\n",
                Err(403),
            ),
        ] {
            let checked = local().check_change(&request(headers));
            assert_eq!(checked.map_err(|bad| bad.0), expected, "{headers}");
        }
    }

    #[test]
    fn without_a_token_none_is_needed() {
        assert_eq!(local().check_token(&request("Host: a\r\n")), Ok(()));
    }
}

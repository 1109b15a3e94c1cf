//! The requests of HTTP. Pure.

use std::collections::BTreeMap;

/// The longest head.
pub(super) const LONGEST_HEAD: usize = 16 * 1024;

/// The longest body.
pub(super) const LONGEST_BODY: usize = 4 * 1024;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// The parts of the path between slashes, decoded. It is empty for `/`.
    pub(crate) path: Vec<String>,
    /// The parameters of the query, decoded.
    pub(crate) query: Vec<(String, String)>,
    /// The headers, by their names in lower case.
    headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// The length of the body that follows the head.
    pub(super) body_length: usize,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

/// The methods that have a meaning here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Other,
}

/// Why a request is refused before it is looked at: the status, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRequest(pub(crate) u16, pub(crate) &'static str);

impl Request {
    /// Parses a head: everything up to and with the empty line. `None` if it is not complete yet.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadRequest> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(BadRequest(431, "the head of the request is too large"));
            }
            Err(_) => return Err(BadRequest(400, "this is not a request of HTTP/1.1")),
        };
        let method = match parsed.method.unwrap_or_default() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            _ => Method::Other,
        };
        let mut named = BTreeMap::new();
        for header in parsed.headers.iter() {
            let name = header.name.to_ascii_lowercase();
            let is_single = matches!(
                name.as_str(),
                "host" | "content-length" | "transfer-encoding" | "authorization" | "origin"
            );
            let value = String::from_utf8_lossy(header.value).trim().to_owned();
            if named.insert(name, value).is_some() && is_single {
                return Err(BadRequest(400, "a header is given twice"));
            }
        }
        if parsed.version == Some(1) && !named.contains_key("host") {
            return Err(BadRequest(400, "the header Host is missing"));
        }
        if named.contains_key("transfer-encoding") {
            return Err(BadRequest(411, "a body needs the header Content-Length"));
        }
        let body_length = match named.get("content-length") {
            Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                let length: Option<usize> = text.parse().ok();
                let fits = length.filter(|length| *length <= LONGEST_BODY);
                fits.ok_or(BadRequest(413, "the body is too large"))?
            }
            Some(_) => return Err(BadRequest(400, "Content-Length is not a number")),
            None => 0,
        };
        let target = parsed.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some(path) = path.strip_prefix('/') else {
            return Err(BadRequest(400, "the target of the request is not a path"));
        };
        let bad = || BadRequest(400, "the path or the query is not UTF-8, percent-encoded");
        let path = match path {
            "" => Vec::new(),
            path => {
                let parts = path.split('/').map(|part| decode(part, false));
                parts.collect::<Option<_>>().ok_or_else(bad)?
            }
        };
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
        let query = parameters.map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            Some((decode(name, true)?, decode(value, true)?))
        });
        let query = query.collect::<Option<_>>().ok_or_else(bad)?;
        let expects_continue = named
            .get("expect")
            .is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue"));
        let request = Request {
            method,
            path,
            query,
            headers: named,
            body: Vec::new(),
            body_length,
            expects_continue,
        };
        Ok(Some((request, length)))
    }

    /// A request for tests.
    #[cfg(test)]
    pub(crate) fn sample(head: &str) -> Self {
        Request::parse(head.as_bytes()).unwrap().unwrap().0
    }

    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The path as parts that can be matched.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// A parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut query = self.query.iter();
        let found = query.find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Decodes percent-encoding; in a query, a plus is a space.
fn decode(text: &str, is_query: bool) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if is_query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(Request, usize)>, BadRequest> {
        Request::parse(text.as_bytes())
    }

    fn refusal(text: &str) -> u16 {
        parse(text).unwrap_err().0
    }

    #[test]
    fn a_head_is_parsed_once_it_is_complete() {
        let head =
            "GET /v1/services/a%20b?once&x=1+2 HTTP/1.1\r\nHost: localhost:80\r\nX-A:  b \r\n\r\n";
        for length in 0..head.len() {
            assert_eq!(parse(&head[..length]), Ok(None), "{length}");
        }
        let (request, length) = parse(&format!("{head}rest")).unwrap().unwrap();
        assert_eq!(length, head.len());
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.parts(), ["v1", "services", "a b"]);
        assert_eq!(request.parameter("once"), Some(""));
        assert_eq!(request.parameter("x"), Some("1 2"));
        assert_eq!(request.header("host"), Some("localhost:80"));
        assert_eq!(request.header("x-a"), Some("b"));
        assert_eq!(request.body_length, 0);
    }

    #[test]
    fn an_encoded_slash_stays_in_its_part() {
        let (request, _) = parse("GET /a%2Fb/ HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert_eq!(request.parts(), ["a/b", ""]);
        let (root, _) = parse("HEAD / HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert!(root.parts().is_empty());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, status) in [
            ("\u{1}\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /%2 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://h/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("CONNECT h:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n",
                413,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                413,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                411,
            ),
            (
                &format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(LONGEST_HEAD)),
                431,
            ),
            (
                &format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65)),
                431,
            ),
        ] {
            assert_eq!(refusal(text), status, "{text:.60}");
        }
    }
}

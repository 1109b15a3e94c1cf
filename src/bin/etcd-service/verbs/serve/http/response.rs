//! The replies of HTTP. Pure.

use std::fmt::Write as _;

use super::request::BadRequest;

/// A reply with a whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    status: u16,
    content_type: &'static str,
    /// Headers of this reply only. Their values are constants of this program.
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl Response {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Response {
            status,
            content_type,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(crate) fn json(status: u16, value: &serde_json::Value) -> Self {
        let mut body = value.to_string();
        body.push('\n');
        Response::new(status, "application/json", body)
    }

    /// An error for programs: `{"error": ...}`.
    pub(crate) fn error(status: u16, text: impl AsRef<str>) -> Self {
        Response::json(status, &serde_json::json!({ "error": text.as_ref() }))
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The head and the body. A reply to HEAD has the head only.
    pub(super) fn encode(&self, is_head: bool) -> Vec<u8> {
        let length = self.body.len();
        let mut head = head(self.status, self.content_type, &self.headers);
        // Writing to a string does not fail.
        let _ = write!(head, "Content-Length: {length}\r\n\r\n");
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl From<BadRequest> for Response {
    fn from(BadRequest(status, text): BadRequest) -> Self {
        Response::error(status, text)
    }
}

/// The beginning of each head, without the empty line.
pub(super) fn head(
    status: u16,
    content_type: &str,
    headers: &[(&'static str, &'static str)],
) -> String {
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nX-Frame-Options: DENY\r\n",
        reason(status)
    );
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_to_head_has_the_length_and_no_body() {
        let response = Response::new(200, "text/plain", "hello").header("Allow", "GET");
        let whole = String::from_utf8(response.encode(false)).unwrap();
        let head = String::from_utf8(response.encode(true)).unwrap();
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"));
        assert!(whole.ends_with("Allow: GET\r\nContent-Length: 5\r\n\r\nhello"));
        assert_eq!(whole, format!("{head}hello"));
    }

    #[test]
    fn errors_are_json() {
        let text = String::from_utf8(Response::error(404, "no \"x\"").encode(false)).unwrap();
        assert!(
            text.ends_with("\r\n\r\n{\"error\":\"no \\\"x\\\"\"}\n"),
            "{text}"
        );
    }
}

//! Scheme and authority of a URL, and percent-encoded queries. Pure.

use std::fmt::Write as _;

use super::bad_value::BadValue;

/// The parts of a URL that an endpoint needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    /// The host, and the port if there is one, without a user.
    pub(super) authority: &'a str,
}

/// Parses a URL with `://`, or returns `None` for a text that Go's `net/url` could refuse.
pub(super) fn parse(text: &str) -> Option<Url<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let letters = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let valid = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !letters || !scheme.chars().all(valid) {
        return None;
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) || unescape(rest).is_err() {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    (!authority.is_empty()).then_some(Url { scheme, authority })
}

/// The pairs of a query, in their order. A pair without `=` has the empty value.
pub(super) fn parse_query(query: &str) -> Result<Vec<(String, String)>, BadValue> {
    // Go refuses it since 1.17.
    if query.contains(';') {
        return Err(BadValue::new("it is a query with a semicolon"));
    }
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .map(|(name, value)| Ok((unescape_plus(name)?, unescape_plus(value)?)))
        .collect()
}

/// A query of pairs, in their order, as Go's `url.Values.Encode` writes them.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs = pairs.into_iter();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    pairs.join("&")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            // Writing to a string cannot fail.
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

fn unescape_plus(text: &str) -> Result<String, BadValue> {
    unescape(&text.replace('+', " "))
}

fn unescape(text: &str) -> Result<String, BadValue> {
    const MALFORMED: BadValue = BadValue::fixed("it has a malformed percent-escape");

    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(MALFORMED)?;
        let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| hex);
        bytes.push(byte.ok_or(MALFORMED)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| BadValue::new("it has an escape that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scheme_and_authority_are_found() {
        for (text, scheme, authority) in [
            ("grpc://a:1", "grpc", "a:1"),
            ("http://u:p@a:1/x?y#z", "http", "a:1"),
            ("grpc+tls://[::1]:1?isSecure=false", "grpc+tls", "[::1]:1"),
        ] {
            assert_eq!(parse(text), Some(Url { scheme, authority }), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_urls_are_refused() {
        for text in [
            "",
            "a:1",
            "://a",
            "1x://a",
            "x y://a",
            "http:a",
            "http://",
            "http:///x",
            "http://a\n",
            "http://a/ b",
            "http://a/%zz",
            "http://a/%2",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_query_is_escaped_as_go_does() {
        let pairs = [("a b", "c/d"), ("é", "~-_.")];
        assert_eq!(query(pairs), "a+b=c%2Fd&%C3%A9=~-_.");
        assert_eq!(query([]), "");
    }

    #[test]
    fn malformed_queries_are_refused() {
        for text in ["a=%", "a=%2", "a=%zz", "a=%+1", "a=%ff", "a;b", "%é=1"] {
            assert!(parse_query(text).is_err(), "{text}");
        }
        let lone = parse_query("&a&b=&").unwrap();
        let empty = |name: &str| (name.to_owned(), String::new());
        assert_eq!(lone, [empty("a"), empty("b")]);
    }

    proptest! {
        #[test]
        fn a_query_is_read_as_it_was_written(pairs in vec((".+", ".*"), 0..5)) {
            let written = query(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            prop_assert_eq!(parse_query(&written).unwrap(), pairs);
        }
    }
}

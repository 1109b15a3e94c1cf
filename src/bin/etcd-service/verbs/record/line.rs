//! The lines of a recording. Pure.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One line of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// When it was received: milliseconds since 1970, by the clock of the machine that recorded.
    pub(crate) time: u64,
    pub(crate) revision: i64,
    pub(crate) kind: Kind,
    /// The key, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// The key in base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value64: Option<String>,
    /// The lease of the key, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<String>,
    /// Why the key was deleted, or the contents were listed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<String>,
}

/// What a line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The contents were listed. With the cause `first`, the puts of the same revision that follow are everything
    /// that is there; with another cause, the puts and deletes that follow are the difference to the lines before.
    #[default]
    Reset,
    Put,
    Delete,
    /// From here on, etcd may have changes that come later.
    Stale,
    /// All changes have arrived again.
    Live,
}

/// Bytes as text: as they are if they are UTF-8, else in base64.
pub(super) fn text(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(base64(bytes))),
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * index) & 63) as usize);
            let digit = digit.filter(|_| index <= three.len());
            encoded.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    encoded
}

/// The bytes of base64, or `None` if it is malformed.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = DIGITS.iter().position(|of| *of == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push(u8::try_from(bits >> count & 255).ok()?);
        }
    }
    text.len().is_multiple_of(4).then_some(decoded)
}

impl Line {
    /// The line as JSON, with its line break.
    pub(super) fn write_to(&self, out: &mut String) {
        // Such a line has neither maps nor other types that JSON does not have.
        if let Ok(json) = serde_json::to_string(self) {
            let _ = writeln!(out, "{json}");
        }
    }

    pub(crate) fn key(&self) -> Option<Vec<u8>> {
        bytes(&self.key, &self.key64)
    }

    pub(crate) fn value(&self) -> Option<Vec<u8>> {
        bytes(&self.value, &self.value64)
    }
}

fn bytes(text: &Option<String>, encoded: &Option<String>) -> Option<Vec<u8>> {
    match (text, encoded) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, encoded) => from_base64(encoded.as_deref()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive() {
        for length in 0..20_u8 {
            let bytes: Vec<u8> = (0..length).map(|i| 255 - 7 * i).collect();
            assert_eq!(from_base64(&base64(&bytes)), Some(bytes));
        }
        assert_eq!(base64(b"\xff\xfe"), "//4=");
        assert_eq!(from_base64("abc"), None);
        assert_eq!(from_base64("a b="), None);
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let (value, value64) = text(b"\xff");
        let line = Line {
            time: 5,
            revision: 7,
            kind: Kind::Put,
            key: Some("a\n\u{1b}".into()),
            value,
            value64,
            lease: Some("1f".into()),
            ..Line::default()
        };
        let mut out = String::new();
        line.write_to(&mut out);
        assert_eq!(
            out,
            "{\"time\":5,\"revision\":7,\"kind\":\"put\",\"key\":\"a\\n\\u001b\",\"value64\":\"/w==\",\"lease\":\"1f\"}\n"
        );
        let read: Line = serde_json::from_str(&out).unwrap();
        assert_eq!(read, line);
        assert_eq!(read.value(), Some(vec![255]));
    }
}

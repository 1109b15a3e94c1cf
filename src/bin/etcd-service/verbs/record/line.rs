//! The lines of a recording. Pure.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::base64::{base64, from_base64};

/// One line of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// When it was received: milliseconds since 1970, by the clock of the machine that recorded.
    pub(crate) time: u64,
    pub(crate) revision: i64,
    pub(crate) kind: Kind,
    /// The key, if it is UTF-8. Of a line about the connection, the prefix that it is about.
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

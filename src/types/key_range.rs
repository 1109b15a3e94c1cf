//! Key ranges, with the semantics of etcd.
//!
//! etcd orders keys as bytes. A request names one key, or `[key, range_end)`; a `range_end` of one
//! zero byte means "all keys from `key` on".

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::types::into_bytes::IntoBytes;

/// The `range_end` that means "no end".
pub(crate) const NO_END: &[u8] = b"\0";

/// A single key, or a range of keys.
///
/// Every type that converts to `Bytes` is a single key, so `"a"` can be passed as a `KeyRange`.
///
/// ```
/// use etcd_blocking::KeyRange;
///
/// assert!(KeyRange::prefix("svc/").contains(b"svc/web"));
/// assert!(!KeyRange::prefix("svc/").contains(b"svc0"));
/// assert!(KeyRange::range("a", "c").contains(b"b"));
/// assert!(KeyRange::from_key("b").contains(b"zzz"));
/// assert!(KeyRange::all().contains(b"anything"));
/// assert!(KeyRange::from("a").contains(b"a"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    key: Bytes,
    end: Bytes,
}

impl KeyRange {
    /// The range of exactly this key.
    pub fn key(key: impl IntoBytes) -> Self {
        KeyRange {
            key: key.into_bytes(),
            end: Bytes::new(),
        }
    }

    /// The range of all keys that begin with `prefix`. An empty prefix selects all keys.
    ///
    /// End the prefix of a directory-like name with its separator: `svc/web` also includes
    /// `svc/web2`, `svc/web/` does not.
    pub fn prefix(prefix: impl IntoBytes) -> Self {
        let prefix = prefix.into_bytes();
        if prefix.is_empty() {
            return KeyRange::all();
        }
        let end = prefix_end(&prefix);
        KeyRange { key: prefix, end }
    }

    /// The range from `key` to `end`, excluding `end`.
    pub fn range(key: impl IntoBytes, end: impl IntoBytes) -> Self {
        KeyRange {
            key: key.into_bytes(),
            end: end.into_bytes(),
        }
    }

    /// The range of all keys from `key` on.
    pub fn from_key(key: impl IntoBytes) -> Self {
        let key = key.into_bytes();
        // The server rejects an empty key; the first possible key is "\0".
        let key = if key.is_empty() {
            Bytes::from_static(NO_END)
        } else {
            key
        };
        KeyRange {
            key,
            end: Bytes::from_static(NO_END),
        }
    }

    /// The range of all keys.
    pub fn all() -> Self {
        KeyRange::from_key(Bytes::new())
    }

    /// The first key of the range.
    pub fn start(&self) -> &Bytes {
        &self.key
    }

    /// The `range_end` on the wire: empty for a single key, `"\0"` for no end.
    pub fn range_end(&self) -> &Bytes {
        &self.end
    }

    /// Whether the range is a single key.
    pub fn is_single(&self) -> bool {
        self.end.is_empty()
    }

    /// Whether the range contains `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.end.is_empty() {
            key == self.key
        } else {
            key >= self.key.as_ref() && (self.end == NO_END || key < self.end.as_ref())
        }
    }

    /// Why a server would reject the range, or return nothing for it.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.key.is_empty() {
            Some("the key is empty, which etcd does not allow (for all keys, use KeyRange::all())")
        } else if !self.end.is_empty() && self.end != NO_END && self.end <= self.key {
            Some("the range is empty: its end is not after its first key")
        } else {
            None
        }
    }

    /// The rest of the range after its key `last`.
    pub(crate) fn after(&self, last: &[u8]) -> KeyRange {
        let mut next = BytesMut::with_capacity(last.len() + 1);
        next.extend_from_slice(last);
        // The smallest key after `last` is `last` with a zero byte.
        next.extend_from_slice(b"\0");
        KeyRange {
            key: next.freeze(),
            end: self.end.clone(),
        }
    }
}

impl<T: IntoBytes> From<T> for KeyRange {
    fn from(key: T) -> Self {
        KeyRange::key(key)
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Formats the range for errors: `"key"`, or `"first".."end"`.
impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Printed(&self.key))?;
        if self.end == NO_END {
            f.write_str("..")
        } else if !self.end.is_empty() {
            write!(f, "..{:?}", Printed(&self.end))
        } else {
            Ok(())
        }
    }
}

/// The end of the range of all keys that begin with `prefix`.
///
/// It is the prefix up to its last byte that is not `0xff`, with that byte incremented. A prefix of
/// `0xff` bytes only has no end (`"\0"`).
///
/// ```
/// use etcd_blocking::kv::prefix_end;
///
/// assert_eq!(prefix_end(b"svc/"), "svc0");
/// assert_eq!(prefix_end(b"a\xff"), "b");
/// assert_eq!(prefix_end(b"\xff\xff"), "\0");
/// ```
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte != 0xff) {
        Some(last) => {
            let kept = prefix.get(..=last).unwrap_or_default();
            let mut end = BytesMut::from(kept);
            if let Some(byte) = end.last_mut() {
                *byte = byte.saturating_add(1);
            }
            end.freeze()
        }
        None => Bytes::from_static(NO_END),
    }
}

/// Formats a key for errors and logs: quoted, escaped (no control characters reach a terminal), and
/// cut after 64 bytes.
pub(crate) struct Printed<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        // A cut inside a UTF-8 character does no harm: bytes that are not ASCII are escaped one by
        // one.
        let shown = self.0.get(..SHOWN).unwrap_or(self.0);
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if self.0.len() > SHOWN {
            write!(f, "...({} bytes)", self.0.len())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_prefix_contains_every_key() {
        assert_eq!(KeyRange::prefix(""), KeyRange::all());
        assert_eq!(KeyRange::all().range_end(), "\0");
        assert_eq!(KeyRange::all().start(), "\0");
    }

    #[test]
    fn invalid_ranges_have_a_problem() {
        assert!(KeyRange::key("").problem().is_some());
        assert!(KeyRange::range("b", "a").problem().is_some());
        assert!(KeyRange::range("b", "b").problem().is_some());
        assert!(KeyRange::range("b", "\0").problem().is_none());
        assert!(KeyRange::prefix("b").problem().is_none());
    }

    #[test]
    fn long_and_binary_keys_are_printed_short_and_escaped() {
        assert_eq!(format!("{:?}", Printed(b"a\x1b\"")), r#""a\x1b\"""#);
        assert!(format!("{:?}", Printed(&[b'x'; 100])).ends_with("...(100 bytes)"));
        assert_eq!(
            format!("{:?}", Printed(&[b'x'; 64])).len(),
            64 + 2,
            "all of it"
        );
    }

    #[test]
    fn a_range_is_printed_with_its_ends() {
        for (range, text, is_single) in [
            (KeyRange::key("a"), r#""a""#, true),
            (KeyRange::range("a", "b"), r#""a".."b""#, false),
            (KeyRange::from_key("a"), r#""a".."#, false),
        ] {
            assert_eq!(
                (range.to_string().as_str(), range.is_single()),
                (text, is_single)
            );
            assert_eq!(format!("{range:?}"), text);
        }
    }

    proptest! {
        #[test]
        fn a_prefix_range_holds_exactly_the_keys_with_that_prefix(
            prefix in prop::collection::vec(prop_oneof![Just(0xffu8), Just(0u8), any::<u8>()], 1..4),
            key in prop::collection::vec(prop_oneof![Just(0xffu8), Just(0u8), any::<u8>()], 1..6),
        ) {
            let range = KeyRange::prefix(prefix.clone());
            prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
        }
    }
}

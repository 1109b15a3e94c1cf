//! A namespace: adds a prefix to the keys of requests, and strips it from those of responses.

use bytes::{Bytes, BytesMut};

use crate::error::{Error, Result};
use crate::types::key_range::{KeyRange, NO_END, prefix_end};

/// The prefix of all keys of a view. It is cheap to clone.
///
/// A key is inside when it begins with the prefix and is longer. The key that equals the prefix is
/// outside: its name inside would be empty, and etcd has no empty key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    prefix: Bytes,
    end: Bytes,
}

impl Namespace {
    pub(crate) fn new(prefix: Bytes) -> Result<Self> {
        if prefix.is_empty() {
            // An empty prefix is more likely a missing setting than intended.
            return Err(Error::invalid(
                "the prefix of the namespace is empty: set one",
            ));
        }
        let end = prefix_end(&prefix);
        Ok(Namespace { prefix, end })
    }

    /// The namespace with this prefix inside this one.
    pub(crate) fn nested(&self, prefix: &Bytes) -> Result<Self> {
        // Checked alone: joined to the outer prefix, an empty one would be accepted.
        Namespace::new(prefix.clone())?;
        Namespace::new(self.joined(prefix))
    }

    pub(crate) fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// Adds the prefix to a key, or to `[key, range_end)`. The key must not be empty.
    pub(crate) fn enter(&self, key: &mut Bytes, range_end: &mut Bytes) {
        *key = self.joined(key);
        if *range_end == NO_END {
            *range_end = self.end.clone();
        } else if !range_end.is_empty() {
            *range_end = self.joined(range_end);
        }
    }

    /// Adds the prefix to the name of a lock or an election. Unlike a key it may be empty, because it is
    /// the beginning of a key.
    pub(crate) fn enter_name(&self, name: &mut Bytes) {
        *name = self.joined(name);
    }

    /// Strips the prefix from the name of a lock or an election, if it has the prefix.
    pub(crate) fn leave_name(&self, name: &mut Bytes) {
        if name.starts_with(&self.prefix) {
            *name = name.slice(self.prefix.len()..);
        }
    }

    /// The range with the prefix.
    pub(crate) fn outer(&self, range: &KeyRange) -> KeyRange {
        let (mut key, mut end) = (range.start().clone(), range.range_end().clone());
        self.enter(&mut key, &mut end);
        KeyRange::range(key, end)
    }

    /// Strips the prefix from a key. Returns `false`, and leaves the key unchanged, when it is outside.
    pub(crate) fn leave(&self, key: &mut Bytes) -> bool {
        let inside = key.len() > self.prefix.len() && key.starts_with(&self.prefix);
        if inside {
            *key = key.slice(self.prefix.len()..);
        }
        inside
    }

    fn joined(&self, key: &Bytes) -> Bytes {
        let mut joined = BytesMut::with_capacity(self.prefix.len() + key.len());
        joined.extend_from_slice(&self.prefix);
        joined.extend_from_slice(key);
        joined.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn namespace(prefix: &'static [u8]) -> Namespace {
        Namespace::new(Bytes::from_static(prefix)).unwrap()
    }

    // Case: NS-03
    #[test]
    fn ranges_are_moved_under_the_prefix_and_end_with_it() {
        let moved = |prefix: &'static [u8], key: &'static [u8], end: &'static [u8]| {
            namespace(prefix).outer(&KeyRange::range(key, end))
        };
        assert_eq!(moved(b"pfx/", b"abc", b""), KeyRange::key("pfx/abc"));
        let interval = |key: &'static [u8], end: &'static [u8]| KeyRange::range(key, end);
        assert_eq!(
            moved(b"pfx/", b"abc", b"def"),
            interval(b"pfx/abc", b"pfx/def")
        );
        assert_eq!(moved(b"pfx/", b"abc", b"\0"), interval(b"pfx/abc", b"pfx0"));
        assert_eq!(moved(b"pfx/", b"\0", b"\0"), interval(b"pfx/\0", b"pfx0"));
        assert_eq!(
            moved(b"\xff\xff", b"abc", b"\0"),
            interval(b"\xff\xffabc", b"\0")
        );
        assert_eq!(moved(b"a\xff", b"abc", b"\0"), interval(b"a\xffabc", b"b"));
    }

    #[test]
    fn a_namespace_needs_a_prefix_and_can_be_nested() {
        assert!(Namespace::new(Bytes::new()).is_err());
        let outer = namespace(b"a/");
        assert!(outer.nested(&Bytes::new()).is_err());
        assert_eq!(outer.nested(&"b/".into()).unwrap(), namespace(b"a/b/"));
    }

    #[test]
    fn the_key_that_equals_the_prefix_is_outside() {
        for (key, inside) in [("a/", None), ("a/b", Some("b")), ("b/b", None), ("a", None)] {
            let mut bytes = Bytes::from(key);
            assert_eq!(namespace(b"a/").leave(&mut bytes), inside.is_some());
            assert_eq!(bytes, inside.unwrap_or(key));
        }
    }

    #[test]
    fn a_name_may_be_empty_in_a_namespace() {
        for name in ["", "vote"] {
            let mut moved = Bytes::from(name);
            namespace(b"a/").enter_name(&mut moved);
            assert_eq!(moved, format!("a/{name}"));
            namespace(b"a/").leave_name(&mut moved);
            assert_eq!(moved, name);
        }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0xffu8), Just(0u8), Just(b'/'), any::<u8>()];
        prop::collection::vec(byte, 1..4)
    }

    proptest! {
        #[test]
        fn a_range_has_the_same_keys_inside_and_outside(
            prefix in bytes(), start in bytes(), end in prop::option::of(bytes()), key in bytes(),
        ) {
            let namespace = Namespace::new(prefix.clone().into()).unwrap();
            let range = match end {
                Some(end) => KeyRange::range(start, end),
                None => KeyRange::key(start),
            };
            prop_assume!(range.problem().is_none());
            let outer = namespace.outer(&range);
            prop_assert!(outer.problem().is_none());
            // A key inside, with the prefix added.
            let mut moved: Bytes = [prefix.as_slice(), &key].concat().into();
            prop_assert_eq!(outer.contains(&moved), range.contains(&key));
            prop_assert!(namespace.leave(&mut moved) && moved == key);
            // Any key.
            if outer.contains(&key) {
                let mut inside: Bytes = key.into();
                prop_assert!(namespace.leave(&mut inside) && range.contains(&inside));
            }
        }
    }

    #[test]
    fn a_namespace_has_its_prefix() {
        let namespace = Namespace::new("n/".into()).unwrap();
        assert_eq!(namespace.prefix(), "n/");
    }
}

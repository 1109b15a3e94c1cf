//! Keys of the layout `prefix` `service` `/` `name`. Pure.

use std::borrow::Cow;

use super::bad_value::BadValue;
use crate::types::key_range::KeyRange;

/// Appends a `/` to a prefix that has none and is not empty.
pub(super) fn slashed(prefix: &str) -> Cow<'_, str> {
    if prefix.is_empty() || prefix.ends_with('/') {
        Cow::Borrowed(prefix)
    } else {
        Cow::Owned(format!("{prefix}/"))
    }
}

/// The prefix of the keys of all instances of a service. The slash after the service excludes services with
/// a longer name.
pub(super) fn directory(prefix: &str, service: &str) -> String {
    format!("{}{service}/", slashed(prefix))
}

/// The key of `name` in `service`.
pub(super) fn key(prefix: &str, service: &str, name: &str) -> String {
    let mut key = directory(prefix, service);
    key.push_str(name);
    key
}

/// The keys of a service.
pub(super) fn range(prefix: &str, service: &str) -> KeyRange {
    KeyRange::prefix(directory(prefix, service))
}

/// The keys of all services.
pub(super) fn all(prefix: &str) -> KeyRange {
    KeyRange::prefix(slashed(prefix).into_owned())
}

/// The service and the name in a key.
pub(super) fn split<'a>(prefix: &str, key: &'a [u8]) -> Result<(&'a str, &'a str), BadValue> {
    match split_deep(prefix, key)? {
        (_, name) if name.contains('/') => Err(MALFORMED),
        found => Ok(found),
    }
}

/// The service and the name in a key, of a format in which a name may contain `/`.
pub(super) fn split_deep<'a>(prefix: &str, key: &'a [u8]) -> Result<(&'a str, &'a str), BadValue> {
    match below(prefix, key)?.split_once('/') {
        Some((service, name)) if !service.is_empty() && !name.is_empty() => Ok((service, name)),
        _ => Err(MALFORMED),
    }
}

/// The part of a key that follows the prefix.
pub(super) fn below<'a>(prefix: &str, key: &'a [u8]) -> Result<&'a str, BadValue> {
    let key = std::str::from_utf8(key).map_err(|_| BadValue::new("its key is not UTF-8"))?;
    key.strip_prefix(slashed(prefix).as_ref())
        .ok_or_else(|| BadValue::new("its key is outside of the prefix"))
}

const MALFORMED: BadValue =
    BadValue::fixed("its key is not the prefix, a service and an id, separated by '/'");

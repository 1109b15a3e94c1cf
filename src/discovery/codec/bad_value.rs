//! The reason why a key and its value are not an instance.

use std::borrow::Cow;
use std::fmt;

/// The reason why a key and its value are not an instance.
///
/// The text never contains the value, which may be a secret.
///
/// ```
/// use etcd_blocking::codec::BadValue;
///
/// let bad = BadValue::new("it has no \"addr\"");
/// assert_eq!(bad.to_string(), "it has no \"addr\"");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue(Cow<'static, str>);

impl BadValue {
    /// Creates a reason: a clause about the value as "it", which must not contain the value.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        BadValue(reason.into())
    }

    pub(super) const fn fixed(reason: &'static str) -> Self {
        BadValue(Cow::Borrowed(reason))
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadValue {}

//! The reason why a key and its value are not an instance.

use std::borrow::Cow;
use std::fmt;

/// The reason why a key and its value are not an instance. The text never contains the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadValue(Cow<'static, str>);

impl BadValue {
    pub(super) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        BadValue(reason.into())
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

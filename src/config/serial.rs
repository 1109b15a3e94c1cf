//! How single settings are read from files and written to them.

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;

use crate::secret::Secret;

/// A time as Go writes it.
pub(super) mod time {
    use std::time::Duration;

    use super::{Deserializer, Serializer, Time};
    use crate::config::span;

    pub(in crate::config) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_str(&span::format(*time)),
            None => to.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        from.deserialize_str(Time).map(Some)
    }
}

struct Time;

impl Visitor<'_> for Time {
    type Value = std::time::Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time with its unit, such as \"5s\" or \"500ms\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        super::span::parse(text).map_err(E::custom)
    }
}

/// A password or token. It takes whatever comes, because an error of the format's own would show it.
pub(super) fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    from.deserialize_any(Hidden).map(Some)
}

struct Hidden;

/// What is not a text is refused without showing it: a password of digits alone is still one.
impl Visitor<'_> for Hidden {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
        Err(no_text())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
        Err(no_text())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
        Err(no_text())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
        Err(no_text())
    }
}

fn no_text<E: Error>() -> E {
    E::custom("a password or token must be a text, in quotes")
}

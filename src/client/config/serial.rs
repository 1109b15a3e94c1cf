//! Reads and writes single settings in files.
//!
//! A setting that is null or an empty text counts as not set, like an empty variable of the environment,
//! because templates of files produce such settings.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

use super::span;
use crate::util::secret::Secret;

/// An optional setting.
pub(super) fn optional<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_any(Unless(PhantomData))
}

/// A setting that has the default of its type when it is absent.
pub(super) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    optional(from).map(Option::unwrap_or_default)
}

/// A password or token.
pub(super) fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    let hidden = optional::<D, Hidden>(from)?;
    Ok(hidden.map(|Hidden(secret)| secret))
}

/// A time as Go writes it.
pub(super) mod time {
    use super::{Deserializer, Duration, Serializer, Time, optional, span};

    pub(in crate::client::config) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_str(&span::format(*time)),
            None => to.serialize_none(),
        }
    }

    pub(in crate::client::config) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(optional::<D, Time>(from)?.map(|Time(time)| time))
    }
}

/// Reads a `T`, or `None` for null and the empty text.
struct Unless<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Unless<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        optional(from)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.is_empty() {
            return Ok(None);
        }
        T::deserialize(text.into_deserializer()).map(Some)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(seq)).map(Some)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time with its unit, such as \"5s\" or \"500ms\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                span::parse(text).map(Time).map_err(E::custom)
            }
        }

        from.deserialize_str(Text)
    }
}

struct Hidden(Secret);

/// Refuses other types than texts without printing the value, because a number may be a password.
impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let refused = |_| D::Error::custom("a password or token must be a text, in quotes");
        // The error of the deserializer would contain the value.
        let text = String::deserialize(from).map_err(refused)?;
        Ok(Hidden(Secret::new(text)))
    }
}

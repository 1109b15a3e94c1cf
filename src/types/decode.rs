//! Values as text and as JSON.

use super::KeyValue;
use super::key_range::Printed;
use crate::error::{Error, ErrorKind, Result};

impl KeyValue {
    /// Parses the value as text.
    ///
    /// ```
    /// # use etcd_blocking::{Client, Result};
    /// # fn limit(client: &Client) -> Result<u32> {
    /// client.get("limits/connections")?.map_or(Ok(100), |kv| kv.parse())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) when the value is not UTF-8, or `T` refuses it. The text
    /// names the key and the type, and never the value.
    pub fn parse<T: std::str::FromStr>(&self) -> Result<T> {
        let parsed = self.value_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| self.not_a::<T>(""))
    }

    /// Decodes the value as JSON.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) when the value is not JSON, or not of the type `T`. The text
    /// names the key, the type and the position, and never the value.
    #[cfg(feature = "serde")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.value).map_err(|error| {
            // The text of the error may quote the value.
            let (line, column) = (error.line(), error.column());
            self.not_a::<T>(&format!(" in JSON (line {line}, column {column})"))
        })
    }

    fn not_a<T>(&self, position: &str) -> Error {
        let (key, bytes) = (Printed(&self.key), self.value.len());
        let name = std::any::type_name::<T>();
        let reason = format!("the value of {key:?} ({bytes} bytes) is not a {name}{position}");
        Error::new(ErrorKind::Decode, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(value: &'static str) -> KeyValue {
        KeyValue {
            key: "limits/connections".into(),
            value: value.into(),
            ..KeyValue::default()
        }
    }

    #[test]
    fn a_value_of_another_type_is_an_error_that_does_not_show_it() {
        assert_eq!(kv("42").parse::<u32>().unwrap(), 42);
        let error = kv("secret").parse::<u32>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(
            error.to_string(),
            "the value of \"limits/connections\" (6 bytes) is not a u32"
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn json_of_another_type_is_an_error_that_does_not_show_it() {
        assert_eq!(kv("[1, 2]").json::<Vec<u8>>().unwrap(), [1, 2]);
        let error = kv("[\"secret\"]").json::<Vec<u8>>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        let text = error.to_string();
        assert!(text.contains("in JSON (line 1, column 9)"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

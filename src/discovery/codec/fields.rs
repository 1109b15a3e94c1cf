//! The fields of a JSON value. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::bad_value::BadValue;

/// The fields of a JSON object that are not read yet. `null` counts as missing, because other languages write
/// it for absent values.
pub(super) struct Fields {
    rest: Map<String, Value>,
    /// Whether the value is one that Go programs read.
    is_go: bool,
}

impl Fields {
    /// The fields of a value, whose names must be written exactly as they are read.
    pub(super) fn parse(value: &[u8]) -> Result<Self, BadValue> {
        match serde_json::from_slice(value) {
            Ok(Value::Object(rest)) => Ok(Fields { rest, is_go: false }),
            Ok(_) => Err(BadValue::new("it is JSON, but not an object")),
            // This error contains the line and the column, and nothing of the text.
            Err(error) => Err(BadValue::new(format!("it is not JSON: {error}"))),
        }
    }

    /// The fields of a value that Go programs read: their names may be in upper or lower case.
    pub(super) fn parse_go(value: &[u8]) -> Result<Self, BadValue> {
        Fields::parse(value).map(|fields| Fields::go(fields.rest))
    }

    /// The same of an object inside a value.
    pub(super) fn go(rest: Map<String, Value>) -> Self {
        Fields { rest, is_go: true }
    }

    /// The fields that were not read.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.rest
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let mut value = self.rest.remove(name);
        if value.is_none() && self.is_go {
            let mut names = self.rest.keys();
            let other = names.find(|other| other.eq_ignore_ascii_case(name));
            value = other.cloned().and_then(|other| self.rest.remove(&other));
        }
        value.filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, BadValue> {
        let value = self.take(name);
        let text = |value| text(value).ok_or_else(|| wrong(name, "a string"));
        value.map(text).transpose()
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, BadValue> {
        let wrong = || wrong(name, "a whole number of at least 0");
        let number = |value: Value| value.as_u64().ok_or_else(wrong);
        self.take(name).map(number).transpose()
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, BadValue> {
        let flag = |value: Value| value.as_bool().ok_or_else(|| wrong(name, "true or false"));
        self.take(name).map(flag).transpose()
    }

    /// A weight of a format in which 0, a negative number and a missing field mean `default`.
    pub(super) fn weight(&mut self, name: &str, default: u32) -> Result<u32, BadValue> {
        let number = match self.take(name) {
            None => return Ok(default),
            Some(number) => number,
        };
        match (number.as_i64(), number.as_u64()) {
            (Some(..=0), _) => Ok(default),
            (_, Some(weight)) => u32::try_from(weight).map_err(|_| wrong(name, "below 2^32")),
            _ => Err(wrong(name, "a whole number")),
        }
    }

    /// Checks that these fields are whole numbers, and leaves them among the rest.
    pub(super) fn check_numbers(&self, names: &[&str]) -> Result<(), BadValue> {
        let valid = |value: &Value| value.is_null() || value.is_i64() || value.is_u64();
        self.check(names, valid, "a whole number")
    }

    /// Checks that these fields are texts, and leaves them among the rest.
    pub(super) fn check_texts(&self, names: &[&str]) -> Result<(), BadValue> {
        let valid = |value: &Value| value.is_null() || value.is_string();
        self.check(names, valid, "a string")
    }

    fn check(
        &self,
        names: &[&str],
        valid: impl Fn(&Value) -> bool,
        wanted: &str,
    ) -> Result<(), BadValue> {
        let invalid = |name: &&&str| self.rest.get(**name).is_some_and(|value| !valid(value));
        let invalid = names.iter().find(invalid);
        invalid.map_or(Ok(()), |name| Err(wrong(name, wanted)))
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Vec<String>, BadValue> {
        let wrong = || wrong(name, "a list of strings");
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let items = items.into_iter();
                items
                    .map(|item| self.inner_text(item).ok_or_else(wrong))
                    .collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    pub(super) fn entries(&mut self, name: &str) -> Result<BTreeMap<String, String>, BadValue> {
        let wrong = || wrong(name, "an object with strings");
        match self.take(name) {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(entries)) => {
                let entries = entries.into_iter();
                entries
                    .map(|(name, value)| Ok((name, self.inner_text(value).ok_or_else(wrong)?)))
                    .collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// A text inside a list or an object. Go reads `null` there as the empty text.
    fn inner_text(&self, value: Value) -> Option<String> {
        match value {
            Value::Null if self.is_go => Some(String::new()),
            other => text(other),
        }
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

pub(super) fn wrong(name: &str, wanted: &str) -> BadValue {
    BadValue::new(format!("its \"{name}\" is not {wanted}"))
}

/// An object with strings.
pub(super) fn object(entries: &BTreeMap<String, String>) -> Value {
    let entries = entries.iter();
    Value::Object(
        entries
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect(),
    )
}

/// An object with strings, or `null` if there are none: Go programs write so a map that was not made.
pub(super) fn object_or_null(entries: &BTreeMap<String, String>) -> Value {
    if entries.is_empty() {
        Value::Null
    } else {
        object(entries)
    }
}

/// Writes a JSON object whose fields have the order in which other programs write them.
#[derive(Default)]
pub(super) struct ObjectWriter(String);

impl ObjectWriter {
    pub(super) fn field(self, name: &str, value: impl Into<Value>) -> Self {
        self.raw(name, &value.into().to_string())
    }

    fn raw(mut self, name: &str, json: &str) -> Self {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&format!("{}:{json}", Value::from(name)));
        self
    }

    pub(super) fn list(self, name: &str, items: impl IntoIterator<Item = ObjectWriter>) -> Self {
        let items: Vec<String> = items.into_iter().map(ObjectWriter::text).collect();
        self.raw(name, &format!("[{}]", items.join(",")))
    }

    /// Writes the fields that the format does not know, sorted.
    pub(super) fn rest(self, rest: Map<String, Value>) -> Self {
        // Sorted here, so that the bytes do not depend on a feature flag of serde_json.
        let rest: BTreeMap<String, Value> = rest.into_iter().collect();
        let fields = rest.into_iter();
        fields.fold(self, |writer, (name, value)| writer.field(&name, value))
    }

    pub(super) fn end(self) -> Bytes {
        self.text().into()
    }

    fn text(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_names_are_found_in_is_go_and_exact_ones_first() {
        let mut fields = Fields::parse_go(br#"{"ADDR":"b","addr":"a","port":1}"#).unwrap();
        assert_eq!(fields.text("addr").unwrap().unwrap(), "a");
        assert_eq!(fields.text("addr").unwrap().unwrap(), "b");
        assert_eq!(fields.number("Port").unwrap(), Some(1));
        let mut exact = Fields::parse(br#"{"ADDR":"b"}"#).unwrap();
        assert_eq!(exact.text("addr").unwrap(), None);
    }

    #[test]
    fn go_reads_null_as_the_empty_text() {
        let json = br#"{"a":{"k":null},"b":[null]}"#;
        let mut fields = Fields::parse_go(json).unwrap();
        assert_eq!(fields.entries("a").unwrap()["k"], "");
        assert_eq!(fields.list("b").unwrap(), [""]);
        let mut exact = Fields::parse(json).unwrap();
        assert!(exact.entries("a").is_err() && exact.list("b").is_err());
    }

    #[test]
    fn a_weight_of_0_or_less_is_the_default() {
        for (json, weight) in [("0", 10), ("-5", 10), ("null", 10), ("7", 7)] {
            let json = format!("{{\"weight\":{json}}}");
            let mut fields = Fields::parse(json.as_bytes()).unwrap();
            assert_eq!(fields.weight("weight", 10), Ok(weight));
        }
        for json in ["1.5", "\"1\"", "4294967296", "true"] {
            let json = format!("{{\"weight\":{json}}}");
            let mut fields = Fields::parse(json.as_bytes()).unwrap();
            assert!(fields.weight("weight", 10).is_err(), "{json}");
        }
    }

    #[test]
    fn fields_are_written_in_the_given_order_and_the_rest_is_sorted() {
        let rest = Fields::parse(br#"{"y":1,"x":[null]}"#).unwrap().rest();
        let written = ObjectWriter::default()
            .field("b", "\"")
            .field("a", 1)
            .rest(rest);
        assert_eq!(written.end(), r#"{"b":"\"","a":1,"x":[null],"y":1}"#);
        assert_eq!(ObjectWriter::default().end(), "{}");
    }
}

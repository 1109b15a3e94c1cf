//! Instances as JSON. Pure.

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use etcd_blocking::Instance;
use serde_json::{Value, json};

use super::printable::is_unsafe;

/// An instance with all its properties. `since` is in milliseconds since 1970.
pub(crate) fn instance_json(instance: &Instance) -> Value {
    let since = instance.since();
    let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    let since = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    json!({
        "service": instance.service,
        "id": instance.id,
        "addr": instance.addr,
        "status": instance.status.as_str(),
        "reason": instance.reason,
        "weight": instance.weight,
        "zone": instance.zone,
        "version": instance.version,
        "tags": instance.tags,
        "meta": instance.meta,
        "endpoints": instance.endpoints,
        "since": since,
        "incarnation": instance.incarnation(),
    })
}

/// The value as one line that is safe on a terminal: characters that it would obey are escaped.
pub(crate) fn json_line(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(is_unsafe) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_unsafe(c) {
            // Outside of strings, JSON without spaces has no such characters.
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                // Writing to a string does not fail.
                let _ = write!(safe, "\\u{unit:04x}");
            }),
            false => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_character_that_a_terminal_obeys_and_means_the_same() {
        let text = "a\u{9b}2J\u{202e}\n\u{e0041}\u{7f}ö🙂";
        let value = json!({ "meta": { text: [text] } });
        let line = json_line(&value);
        assert!(!line.contains(is_unsafe), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
        assert!(line.contains("ö🙂"));
    }

    #[test]
    fn an_instance_has_every_property() {
        let instance = Instance::new("web", "10.0.0.5:80").id("a").tag("t");
        let value = instance_json(&instance.meta("k", "v"));
        let expected = json!({
            "service": "web", "id": "a", "addr": "10.0.0.5:80", "status": "up", "reason": "", "weight": 1,
            "zone": "", "version": "", "tags": ["t"], "meta": { "k": "v" }, "endpoints": {}, "since": null,
            "incarnation": 0,
        });
        assert_eq!(value, expected);
    }
}

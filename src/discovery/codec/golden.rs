//! Values that foreign libraries wrote, and what every format must do with values. For the tests of codecs.

use serde_json::Value;

use super::{Codec, Format};
use crate::discovery::instance::Instance;

/// The keys and values of a golden file.
pub(super) fn records(golden: &str) -> Vec<(&str, &str)> {
    let lines = golden.lines().filter(|line| !line.starts_with('#'));
    let records: Vec<_> = lines.map(|line| line.split_once(' ').unwrap()).collect();
    assert!(!records.is_empty());
    records
}

/// Reads each record of a golden file, and checks that its instance is written to the same key with the same
/// bytes.
pub(super) fn assert_same_bytes(codec: impl Codec + Copy + 'static, golden: &str) -> Vec<Instance> {
    let format = Format::new(codec);
    let each = records(golden).into_iter().map(|(key, value)| {
        let instance = format.decode(key.as_bytes(), value.as_bytes());
        let instance = instance.unwrap().unwrap();
        assert!(format.range(&instance.service).contains(key.as_bytes()));
        assert_eq!(format.key(&instance).unwrap(), key);
        assert_eq!(format.encode(&instance).unwrap().unwrap(), value);
        instance
    });
    each.collect()
}

/// The same for values with unknown nested objects, whose members are written sorted.
pub(super) fn assert_same_json(codec: impl Codec + Copy + 'static, golden: &str) -> Vec<Instance> {
    let format = Format::new(codec);
    let each = records(golden).into_iter().map(|(key, value)| {
        let instance = format.decode(key.as_bytes(), value.as_bytes());
        let instance = instance.unwrap().unwrap();
        assert_eq!(format.key(&instance).unwrap(), key);
        let written = format.encode(&instance).unwrap().unwrap();
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(json(&written), json(value.as_bytes()));
        instance
    });
    each.collect()
}

/// Checks that each value is refused with a reason that contains a text and nothing of the value.
pub(super) fn assert_reasons(codec: impl Codec + 'static, key: &str, bad: &[(&str, &str)]) {
    let format = Format::new(codec);
    for (value, expected) in bad {
        let read = format.decode(key.as_bytes(), value.as_bytes());
        let reason = read.unwrap_err().to_string();
        assert!(reason.contains(expected), "{value}: {reason}");
        assert!(!reason.contains("secret"), "{value}: {reason}");
    }
}

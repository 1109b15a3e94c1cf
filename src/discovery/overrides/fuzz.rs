//! The fuzz target of overrides.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeMap;

use bytes::Bytes;

use super::operator_override::Override;
use super::override_feed::by_service;
use crate::fuzz::input::Input;

/// Reads overrides from keys and values. Each has the service and the id that its key names, and is written as it is
/// read.
pub(crate) fn overrides(data: &[u8]) {
    let mut data = Input::new(data);
    let prefix = data.text(8);
    let folder = Override::folder(&prefix);
    let mut keys = BTreeMap::new();
    while !data.is_empty() && keys.len() < 8 {
        let below = data.byte() < 224;
        let start = if below { folder.as_bytes() } else { b"" };
        let key = Bytes::from([start, data.bytes(32)].concat());
        keys.insert(key, Bytes::copy_from_slice(data.bytes(64)));
    }
    let mut found = 0;
    for (service, overrides) in by_service(&folder, &keys) {
        for (id, one) in overrides.iter() {
            found += 1;
            let key = Override::key(&prefix, &service, id);
            assert!(keys.contains_key(key.as_bytes()), "{key:?}");
            let text = one.to_string();
            assert_eq!(text.parse::<Override>().expect("its own text"), *one);
            assert!(text.len() <= 40);
        }
    }
    assert!(found <= keys.len());
}

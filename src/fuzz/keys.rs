//! The fuzz target of keys and ranges.

use bytes::Bytes;

use super::input::Input;
use crate::kv::prefix_end;
use crate::rpc::namespace::Namespace;
use crate::types::key_range::{KeyRange, Printed};

/// Checks the arithmetic of prefixes, ranges and namespaces with any keys.
pub(super) fn keys(data: &[u8]) {
    let mut data = Input::new(data);
    let prefix = Bytes::copy_from_slice(data.bytes(64));
    let (start, end) = (data.bytes(64), data.bytes(64));
    let key = match data.flag() {
        true => Bytes::from([&prefix, data.bytes(64)].concat()),
        false => Bytes::copy_from_slice(data.bytes(64)),
    };
    let of_prefix = KeyRange::prefix(prefix.clone());
    if !key.is_empty() {
        assert_eq!(of_prefix.contains(&key), key.starts_with(&prefix));
    }
    assert!(of_prefix.problem().is_none());
    let last = prefix_end(&prefix);
    assert!(last == "\0" || last > prefix);

    let range = KeyRange::range(Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
    let shown = range.to_string();
    assert!(shown.is_ascii() && !shown.contains(|c: char| c.is_control()));
    assert!(format!("{:?}", Printed(&key)).len() <= 4 * 64 + 40);
    if range.problem().is_none() {
        inside(&range, &key);
        if let Ok(namespace) = Namespace::new(prefix) {
            moved(&namespace, &range, &key);
        }
    }
}

/// The rest of a range after one of its keys is the range without this key and those before it.
fn inside(range: &KeyRange, key: &Bytes) {
    if !range.is_single() && range.contains(key) {
        let rest = range.after(key);
        assert!(!rest.contains(key));
        let next = [key, &b"\0"[..]].concat();
        assert_eq!(rest.contains(&next), range.contains(&next));
    }
}

/// A range has the same keys inside of a namespace as outside.
fn moved(namespace: &Namespace, range: &KeyRange, key: &Bytes) {
    let outer = namespace.outer(range);
    assert!(outer.problem().is_none());
    if !key.is_empty() {
        let mut full = Bytes::from([&namespace.prefix()[..], key].concat());
        assert_eq!(outer.contains(&full), range.contains(key));
        assert!(namespace.leave(&mut full) && full == key);
    }
    let mut left = key.clone();
    if outer.contains(key) {
        assert!(namespace.leave(&mut left) && range.contains(&left));
    } else if !namespace.leave(&mut left) {
        assert_eq!(left, key);
    }
    let mut name = key.clone();
    namespace.enter_name(&mut name);
    namespace.leave_name(&mut name);
    assert_eq!(name, key);
}

//! The fuzz target of cache files.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use hmac_sha256::Hash;

use super::cache_file::{CacheName, MAGIC, decode, encode};
use crate::types::key_range::KeyRange;

/// Reads a cache file: the bytes as they are, and the same with the head and the checksum of a valid one. What is read
/// is written as the same bytes.
pub(crate) fn cache_file(data: &[u8]) {
    let name = CacheName::new("web", [("native", KeyRange::prefix("/services/web/"))]);
    check(data, &name);
    let empty = encode(&name, std::time::SystemTime::UNIX_EPOCH, std::iter::empty());
    // Without the time, the number of sources and the checksum.
    let head = &empty[..empty.len() - 48];
    assert!(head.starts_with(MAGIC));
    let mut file = [head, data].concat();
    let digest = Hash::hash(&file);
    file.extend(digest);
    check(&file, &name);
}

fn check(file: &[u8], name: &CacheName) {
    if let Ok(contents) = decode(file, name) {
        let sources = contents.sources.iter();
        let sources = sources.map(|kvs| kvs.iter().map(|(key, value)| (key, value)).collect());
        assert_eq!(encode(name, contents.saved, sources), file);
    }
}

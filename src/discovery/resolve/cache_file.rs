//! The contents of the cache file of a view. Pure.
//!
//! The layout is: a line with the version, the name of the view, the time, the keys and values of each source
//! as etcd has them, and the SHA-256 of all that. Numbers are big-endian, and texts follow their length.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hmac_sha256::Hash;

use crate::types::key_range::KeyRange;

/// The first line, up to the version.
const KIND: &[u8] = b"etcd-blocking view ";

/// The first line. The version changes with the layout.
pub(super) const MAGIC: &[u8] = b"etcd-blocking view 1\n";

const DIGEST: usize = 32;

/// The name of a view, so that a file is used by no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CacheName(Vec<u8>);

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CacheContents {
    pub(super) saved: SystemTime,
    /// The keys and values of each source.
    pub(super) sources: Vec<Vec<(Bytes, Bytes)>>,
}

impl CacheName {
    /// The name of a view of `service` that reads these ranges with the codecs of these names.
    pub(super) fn new<'a>(
        service: &str,
        formats: impl IntoIterator<Item = (&'a str, KeyRange)>,
    ) -> Self {
        let mut name = Vec::new();
        put(&mut name, service.as_bytes());
        for (codec, range) in formats {
            put(&mut name, codec.as_bytes());
            put(&mut name, range.start());
            put(&mut name, range.range_end());
        }
        CacheName(name)
    }

    /// The name of the file. The names of services may be too long for that.
    pub(super) fn file_name(&self) -> String {
        let digest = Hash::hash(&self.0);
        let digits = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
        format!("{}.view", digits.collect::<String>())
    }
}

/// Encodes a file.
pub(super) fn encode<'a>(
    name: &CacheName,
    saved: SystemTime,
    sources: impl ExactSizeIterator<Item = Vec<(&'a Bytes, &'a Bytes)>>,
) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    put(&mut file, &name.0);
    let saved = saved.duration_since(SystemTime::UNIX_EPOCH);
    let saved = u64::try_from(saved.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    file.extend(saved.to_be_bytes());
    put_length(&mut file, sources.len());
    for kvs in sources {
        put_length(&mut file, kvs.len());
        for (key, value) in kvs {
            put(&mut file, key);
            put(&mut file, value);
        }
    }
    let digest = Hash::hash(&file);
    file.extend(digest);
    file
}

/// Decodes a file of the view with this name, or returns why it is refused.
pub(super) fn decode(file: &[u8], name: &CacheName) -> Result<CacheContents, &'static str> {
    if !file.starts_with(MAGIC) {
        return Err(match file.starts_with(KIND) {
            true => "it was written by another version of the crate",
            false => "it is not the cache file of a view",
        });
    }
    let split = file.len().checked_sub(DIGEST);
    let Some((contents, digest)) = split.and_then(|at| file.split_at_checked(at)) else {
        return Err(DAMAGED);
    };
    if Hash::hash(contents) != digest {
        return Err(DAMAGED);
    }
    let mut rest = Rest(contents.get(MAGIC.len()..).unwrap_or_default());
    if rest.take().ok_or(DAMAGED)? != name.0 {
        return Err("it belongs to another view");
    }
    contents_of(rest).ok_or(DAMAGED)
}

/// The reason of a file that is truncated or was changed.
const DAMAGED: &str = "it is damaged: its checksum is wrong";

fn contents_of(mut rest: Rest<'_>) -> Option<CacheContents> {
    let saved = Duration::from_millis(rest.number()?);
    let saved = SystemTime::UNIX_EPOCH.checked_add(saved)?;
    let mut sources = Vec::new();
    for _ in 0..rest.length()? {
        let mut kvs = Vec::new();
        for _ in 0..rest.length()? {
            let key = Bytes::copy_from_slice(rest.take()?);
            kvs.push((key, Bytes::copy_from_slice(rest.take()?)));
        }
        sources.push(kvs);
    }
    rest.0
        .is_empty()
        .then_some(CacheContents { saved, sources })
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn take(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.bytes(length)
    }
}

fn put(file: &mut Vec<u8>, bytes: &[u8]) {
    put_length(file, bytes.len());
    file.extend(bytes);
}

fn put_length(file: &mut Vec<u8>, length: usize) {
    file.extend(u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(service: &str) -> CacheName {
        CacheName::new(service, [("native", KeyRange::prefix("/services/web/"))])
    }

    fn file(kvs: &[(Bytes, Bytes)], at: SystemTime) -> Vec<u8> {
        let kvs: Vec<_> = kvs.iter().map(|(key, value)| (key, value)).collect();
        encode(&name("web"), at, [kvs, Vec::new()].into_iter())
    }

    fn some() -> Vec<(Bytes, Bytes)> {
        let kv = |n: usize| (Bytes::from(format!("/services/web/{n}")), Bytes::from("{}"));
        (0..20).map(kv).collect()
    }

    const AT: Duration = Duration::from_millis(1_700_000_000_123);

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let saved = SystemTime::UNIX_EPOCH + AT;
        let contents = decode(&file(&some(), saved), &name("web")).unwrap();
        assert_eq!(contents.saved, saved);
        assert_eq!(contents.sources, [some(), Vec::new()]);
    }

    #[test]
    fn views_have_files_of_their_own() {
        let web = name("web");
        let others = [
            name("web2"),
            CacheName::new("web", [("native", KeyRange::prefix("/other/web/"))]),
            CacheName::new("web", [("plain", KeyRange::prefix("/services/web/"))]),
            CacheName::new("web", []),
        ];
        let foreign = file(&some(), SystemTime::UNIX_EPOCH + AT);
        for other in others {
            assert_ne!(other.file_name(), web.file_name());
            let refused = decode(&foreign, &other).unwrap_err();
            assert!(refused.contains("another view"), "{refused}");
        }
        assert!(web.file_name().len() < 64);
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        for (bytes, reason) in [
            (&b""[..], "not the cache file"),
            (b"# a note", "not the cache file"),
            (b"etcd-blocking view 2\n", "another version"),
            (MAGIC, "damaged"),
        ] {
            let refused = decode(bytes, &name("web")).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_truncated_or_changed_file_is_refused(
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
            cut in any::<bool>(),
        ) {
            let mut file = file(&some(), SystemTime::UNIX_EPOCH + AT);
            let at = at.index(file.len());
            match cut {
                true => file.truncate(at),
                false => file[at] ^= flip,
            }
            prop_assert!(decode(&file, &name("web")).is_err());
        }

        #[test]
        fn any_contents_with_a_valid_checksum_cause_no_panic(
            rest in prop::collection::vec(any::<u8>(), 0..200),
            is_named in any::<bool>(),
        ) {
            let mut file = MAGIC.to_vec();
            if is_named {
                put(&mut file, &name("web").0);
            }
            file.extend(rest);
            let digest = Hash::hash(&file);
            file.extend(digest);
            let _ = decode(&file, &name("web"));
        }
    }
}

//! The basic types of etcd: revisions, leases, members, keys with their values.

mod decode;
pub(crate) mod into_bytes;
pub(crate) mod key_range;

use std::fmt;
use std::num::NonZeroI64;

use bytes::Bytes;

/// A point in the history of the whole store. Each write transaction creates the next revision.
///
/// Revisions only increase, unless the store loses data or is restored from a backup. `0` means
/// "none": the current revision in a request, no revision in a response.
///
/// ```
/// use etcd_blocking::Revision;
///
/// let seen = Revision::new(41);
/// assert_eq!(seen.next().get(), 42);
/// assert!(Revision::NONE < seen);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(i64);

impl Revision {
    /// No revision.
    pub const NONE: Revision = Revision(0);

    /// Creates the revision with this number.
    pub const fn new(number: i64) -> Self {
        Revision(number)
    }

    /// The number of the revision.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The revision after this one: the start of a watch that continues after it.
    pub const fn next(self) -> Self {
        Revision(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The id of a lease. It is never zero, which means "no lease" on the wire.
///
/// It prints in hexadecimal, as in etcdctl.
///
/// ```
/// use etcd_blocking::LeaseId;
///
/// let id = LeaseId::new(0x694d7a3c5f1b0a02).unwrap();
/// assert_eq!(id.to_string(), "694d7a3c5f1b0a02");
/// assert!(LeaseId::new(0).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(NonZeroI64);

impl LeaseId {
    /// Creates the id with this number; `None` for zero.
    pub const fn new(id: i64) -> Option<Self> {
        match NonZeroI64::new(id) {
            Some(id) => Some(LeaseId(id)),
            None => None,
        }
    }

    /// The number of the id.
    pub const fn get(self) -> i64 {
        self.0.get()
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0.get())
    }
}

/// The id of a member, an etcd server of the cluster. It prints in hexadecimal, as in etcdctl.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberId(u64);

impl MemberId {
    /// Creates the id with this number.
    pub const fn new(id: u64) -> Self {
        MemberId(id)
    }

    /// The number of the id.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The header of a response: which member answered, and the revision of its store.
///
/// ```no_run
/// use etcd_blocking::Get;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let read = client.call(Get::key("color"))?;
/// println!("member {} at {:?}", read.header().member_id, read.header().revision);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ResponseHeader {
    /// The id of the cluster.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: MemberId,
    /// The revision of the store at the time of the answer.
    pub revision: Revision,
    /// The raft term, which increases with every election.
    pub raft_term: u64,
}

impl ResponseHeader {
    pub(crate) fn new(cluster_id: u64, member_id: u64, revision: i64, raft_term: u64) -> Self {
        ResponseHeader {
            cluster_id,
            member_id: MemberId(member_id),
            revision: Revision(revision),
            raft_term,
        }
    }
}

/// A key with its value and metadata, at one revision.
///
/// ```no_run
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// if let Some(kv) = client.get("limits/connections")? {
///     let limit: u32 = kv.parse()?;
///     println!("{limit}, created at {:?}, version {}", kv.create_revision(), kv.version());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct KeyValue {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

impl KeyValue {
    /// A copy with its own memory. The key and value of a response share the memory of the whole
    /// response, so values that are kept for long are copied.
    pub(crate) fn detached(&self) -> KeyValue {
        // One allocation for both.
        let key_ends = self.key.len();
        let mut own = Vec::with_capacity(key_ends + self.value.len());
        own.extend_from_slice(&self.key);
        own.extend_from_slice(&self.value);
        let own = Bytes::from(own);
        KeyValue {
            key: own.slice(..key_ends),
            value: own.slice(key_ends..),
            ..*self
        }
    }

    /// The key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The key as text. Invalid UTF-8 is replaced by U+FFFD.
    pub fn key_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }

    /// The value. It is empty in the response to a `keys_only` request.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The value as text; `None` when it is not UTF-8.
    pub fn value_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }

    /// The revision that created the key. A key that is deleted and put again has a new one.
    pub fn create_revision(&self) -> Revision {
        Revision(self.create_revision)
    }

    /// The revision of the last change of the key.
    pub fn mod_revision(&self) -> Revision {
        Revision(self.mod_revision)
    }

    /// The number of puts since the key was created, including the first.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The lease that the key is attached to: when it ends, etcd deletes the key.
    pub fn lease(&self) -> Option<LeaseId> {
        LeaseId::new(self.lease)
    }
}

/// Prints the key, the length of the value and the revisions. Values can be large or secret, so
/// they are not printed.
impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &crate::types::key_range::Printed(&self.key))
            .field("value_len", &self.value.len())
            .field("create_revision", &self.create_revision)
            .field("mod_revision", &self.mod_revision)
            .field("version", &self.version)
            .field("lease", &self.lease())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_etcdctl_prints_them() {
        let lease = LeaseId::new(0x1f).unwrap();
        assert_eq!(lease.to_string(), "000000000000001f");
        assert_eq!(format!("{lease:?}"), "000000000000001f");
        assert_eq!(MemberId::new(0x1f).to_string(), "1f");
        assert_eq!(format!("{:?}", MemberId::new(0x1f)), "1f");
        assert_eq!(Revision::new(7).to_string(), "7");
        assert_eq!(format!("{:?}", Revision::new(7)), "r7");
    }

    #[test]
    fn the_debug_output_of_a_key_value_has_no_value() {
        let kv = KeyValue {
            key: "k".into(),
            value: "secret".into(),
            version: 3,
            ..KeyValue::default()
        };
        assert_eq!(kv.version(), 3);
        let text = format!("{kv:?}");
        assert!(
            text.contains("\"k\"") && text.contains("value_len: 6"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }
}

//! The words of etcd: revisions, leases, members, keys with their values.

mod decode;
pub(crate) mod into_bytes;
pub(crate) mod key_range;

use std::fmt;
use std::num::NonZeroI64;

use bytes::Bytes;

/// A point in the history of the whole store: every write transaction makes the next one.
///
/// Revisions only grow, unless the store loses data or is restored from a backup. `0` means
/// "none": the current revision in a request, no revision in an answer.
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

    /// The revision with this number.
    pub const fn new(number: i64) -> Self {
        Revision(number)
    }

    /// Its number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The one after it: where a watch goes on that has seen everything up to here.
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

/// The id of a lease; never zero, which on the wire means "no lease".
///
/// It prints in hexadecimal, as etcdctl shows it.
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
    /// The lease with this id, or `None` for zero.
    pub const fn new(id: i64) -> Option<Self> {
        match NonZeroI64::new(id) {
            Some(id) => Some(LeaseId(id)),
            None => None,
        }
    }

    /// The number.
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

/// The id of a member: one etcd server of the cluster. It prints in hexadecimal, as etcdctl shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberId(u64);

impl MemberId {
    /// The member with this id.
    pub const fn new(id: u64) -> Self {
        MemberId(id)
    }

    /// The number.
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

/// What every answer of etcd begins with: who answered, and how new its store was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ResponseHeader {
    /// The cluster that answered.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: MemberId,
    /// The revision of the store when it answered.
    pub revision: Revision,
    /// The raft term: it grows with every election.
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

/// A key as it was at one revision.
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
    /// The same with memory of its own. A key and a value that were read are views of the whole reply,
    /// and keep all of it in memory: what is kept for long is copied.
    pub(crate) fn detached(&self) -> KeyValue {
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

    /// The key as text, with what is not UTF-8 replaced.
    pub fn key_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }

    /// The value; empty in an answer to `keys_only`.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The value as text, or `None` when it is not UTF-8.
    pub fn value_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }

    /// The revision that created the key; a key that is deleted and put again is created anew.
    pub fn create_revision(&self) -> Revision {
        Revision(self.create_revision)
    }

    /// The revision of its last change.
    pub fn mod_revision(&self) -> Revision {
        Revision(self.mod_revision)
    }

    /// How often it was put since it was created, that first time included.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The lease the key hangs on: when that ends, the key goes with it.
    pub fn lease(&self) -> Option<LeaseId> {
        LeaseId::new(self.lease)
    }
}

/// Keys and values can be large and values can be secret: a `KeyValue` prints its key, the length
/// of its value, and its revisions.
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

//! The guards of a transaction.

use std::fmt;

use bytes::Bytes;

use super::range;
use crate::grpc::etcd_rs_proto::etcdserverpb::Compare as PbCompare;
use crate::grpc::etcd_rs_proto::etcdserverpb::compare::{
    CompareResult, CompareTarget, TargetUnion,
};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::types::{LeaseId, Revision};

/// A condition on one key, or on every key of a range, that guards a [`Txn`](super::Txn).
///
/// A key that does not exist has version, revisions and lease 0. It has no value: a comparison of
/// its value is false, whatever the comparison.
///
/// ```
/// use etcd_blocking::{Compare, KeyRange, Revision};
///
/// let absent = Compare::missing("lock");
/// let unchanged = Compare::mod_revision("config").eq(Revision::new(42));
/// let all_quiet = Compare::value(KeyRange::prefix("alarm/")).eq("off");
/// ```
#[derive(Clone, PartialEq)]
#[must_use = "a comparison does nothing outside a transaction"]
pub struct Compare {
    pub(super) pb: PbCompare,
}

/// What a comparison looks at; the method says how, and against what.
#[derive(Clone, Debug)]
#[must_use = "a comparison needs eq, ne, lt or gt"]
pub struct Target<V> {
    keys: KeyRange,
    target: CompareTarget,
    wrap: fn(V) -> TargetUnion,
}

/// A value to compare with, of whatever can be a value.
#[derive(Clone)]
pub struct Value(Bytes);

impl<T: IntoBytes> From<T> for Value {
    fn from(value: T) -> Self {
        Value(value.into_bytes())
    }
}

/// Never shows the value.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

impl Compare {
    /// The key exists; of a range, every key that is in it, so a range that holds none passes too.
    pub fn exists(keys: impl Into<KeyRange>) -> Compare {
        Compare::version(keys).gt(0)
    }

    /// The key does not exist; of a range: it holds no key.
    pub fn missing(keys: impl Into<KeyRange>) -> Compare {
        Compare::version(keys).eq(0)
    }

    /// Compares how often a key was put since it was created; 0 is "does not exist".
    pub fn version(keys: impl Into<KeyRange>) -> Target<i64> {
        Target::new(keys, CompareTarget::Version, TargetUnion::Version)
    }

    /// Compares the revision that created a key.
    pub fn create_revision(keys: impl Into<KeyRange>) -> Target<Revision> {
        Target::new(keys, CompareTarget::Create, |r: Revision| {
            TargetUnion::CreateRevision(r.get())
        })
    }

    /// Compares the revision of a key's last change.
    pub fn mod_revision(keys: impl Into<KeyRange>) -> Target<Revision> {
        Target::new(keys, CompareTarget::Mod, |r: Revision| {
            TargetUnion::ModRevision(r.get())
        })
    }

    /// Compares a key's value, as bytes.
    pub fn value(keys: impl Into<KeyRange>) -> Target<Value> {
        Target::new(keys, CompareTarget::Value, |Value(bytes)| {
            TargetUnion::Value(bytes)
        })
    }

    /// Compares the lease a key hangs on; `None` is no lease.
    pub fn lease(keys: impl Into<KeyRange>) -> Target<Option<LeaseId>> {
        Target::new(keys, CompareTarget::Lease, |id: Option<LeaseId>| {
            TargetUnion::Lease(id.map_or(0, LeaseId::get))
        })
    }

    /// The keys it looks at.
    pub fn keys(&self) -> KeyRange {
        range(&self.pb.key, &self.pb.range_end)
    }
}

impl<V> Target<V> {
    fn new(keys: impl Into<KeyRange>, target: CompareTarget, wrap: fn(V) -> TargetUnion) -> Self {
        Target {
            keys: keys.into(),
            target,
            wrap,
        }
    }

    /// It equals this.
    pub fn eq(self, value: impl Into<V>) -> Compare {
        self.compare(CompareResult::Equal, value)
    }

    /// It does not equal this.
    pub fn ne(self, value: impl Into<V>) -> Compare {
        self.compare(CompareResult::NotEqual, value)
    }

    /// It is greater than this.
    pub fn gt(self, value: impl Into<V>) -> Compare {
        self.compare(CompareResult::Greater, value)
    }

    /// It is less than this.
    pub fn lt(self, value: impl Into<V>) -> Compare {
        self.compare(CompareResult::Less, value)
    }

    fn compare(self, result: CompareResult, value: impl Into<V>) -> Compare {
        let pb = PbCompare {
            result: result.into(),
            target: self.target.into(),
            key: self.keys.start().clone(),
            range_end: self.keys.range_end().clone(),
            target_union: Some((self.wrap)(value.into())),
        };
        Compare { pb }
    }
}

/// Shows what is compared, and never a value.
impl fmt::Debug for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, result) = (self.pb.target(), self.pb.result());
        write!(f, "Compare({target:?} of {} {result:?})", self.keys())
    }
}

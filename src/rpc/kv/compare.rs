//! The comparisons that guard a transaction.

use std::fmt;

use bytes::Bytes;

use super::convert::range;
use crate::grpc::etcd_rs_proto::etcdserverpb::Compare as PbCompare;
use crate::grpc::etcd_rs_proto::etcdserverpb::compare::{
    CompareResult, CompareTarget, TargetUnion,
};
use crate::types::into_bytes::IntoBytes;
use crate::types::key_range::KeyRange;
use crate::types::{LeaseId, Revision};

/// A condition of a [`Txn`](super::Txn) on one key, or on every key of a range.
///
/// The version, revisions and lease of a key that does not exist are 0. It has no value: every
/// comparison of its value is false.
///
/// ```
/// use etcd_blocking::{Compare, KeyRange, Revision};
///
/// let absent = Compare::missing("lock");
/// let unchanged = Compare::mod_revision("config").eq(Revision::new(42));
/// let all_off = Compare::value(KeyRange::prefix("alarm/")).eq("off");
/// ```
#[derive(Clone, PartialEq)]
#[must_use = "a comparison does nothing outside a transaction"]
pub struct Compare {
    pub(super) pb: PbCompare,
}

/// The property that a comparison reads. Its methods set the operator and the operand.
#[derive(Clone, Debug)]
#[must_use = "a comparison needs eq, ne, lt or gt"]
pub struct Target<V> {
    keys: KeyRange,
    target: CompareTarget,
    wrap: fn(V) -> TargetUnion,
}

/// A value to compare with, converted from any type that can be a value.
#[derive(Clone)]
pub struct Value(Bytes);

impl<T: IntoBytes> From<T> for Value {
    fn from(value: T) -> Self {
        Value(value.into_bytes())
    }
}

/// Prints the size only, never the value.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

impl Compare {
    /// True when the key exists. True for every range, also for one without keys.
    pub fn exists(keys: impl Into<KeyRange>) -> Compare {
        Compare::version(keys).gt(0)
    }

    /// True when the key does not exist. For a range: when it has no keys.
    pub fn missing(keys: impl Into<KeyRange>) -> Compare {
        Compare::version(keys).eq(0)
    }

    /// Compares the number of puts of a key since it was created. 0 when it does not exist.
    pub fn version(keys: impl Into<KeyRange>) -> Target<i64> {
        Target::new(keys, CompareTarget::Version, TargetUnion::Version)
    }

    /// Compares the revision at which a key was created.
    pub fn create_revision(keys: impl Into<KeyRange>) -> Target<Revision> {
        Target::new(keys, CompareTarget::Create, |r: Revision| {
            TargetUnion::CreateRevision(r.get())
        })
    }

    /// Compares the revision of the last change of a key.
    pub fn mod_revision(keys: impl Into<KeyRange>) -> Target<Revision> {
        Target::new(keys, CompareTarget::Mod, |r: Revision| {
            TargetUnion::ModRevision(r.get())
        })
    }

    /// Compares the value of a key, as bytes.
    pub fn value(keys: impl Into<KeyRange>) -> Target<Value> {
        Target::new(keys, CompareTarget::Value, |Value(bytes)| {
            TargetUnion::Value(bytes)
        })
    }

    /// Compares the lease that a key is attached to. `None` is no lease.
    pub fn lease(keys: impl Into<KeyRange>) -> Target<Option<LeaseId>> {
        Target::new(keys, CompareTarget::Lease, |id: Option<LeaseId>| {
            TargetUnion::Lease(id.map_or(0, LeaseId::get))
        })
    }

    /// The keys of the comparison.
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

    /// True when the property equals `value`.
    pub fn eq(self, value: impl Into<V>) -> Compare {
        self.compare(CompareResult::Equal, value)
    }

    /// True when the property does not equal `value`.
    pub fn ne(self, value: impl Into<V>) -> Compare {
        self.compare(CompareResult::NotEqual, value)
    }

    /// True when the property is greater than `value`.
    pub fn gt(self, value: impl Into<V>) -> Compare {
        self.compare(CompareResult::Greater, value)
    }

    /// True when the property is less than `value`.
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

/// Prints the property, the keys and the operator, never a value.
impl fmt::Debug for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, result) = (self.pb.target(), self.pb.result());
        write!(f, "Compare({target:?} of {} {result:?})", self.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debug_output_of_a_condition_has_no_value() {
        let value = Value::from("secret");
        assert_eq!(format!("{value:?}"), "Value(6 bytes)");
        let text = format!("{:?}", Compare::value("k").eq("secret"));
        assert_eq!(text, "Compare(Value of \"k\" Equal)");
    }
}

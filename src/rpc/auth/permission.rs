//! What a role may do, and where.

use std::fmt;

use crate::error::{Error, Result};
use crate::grpc::etcd_rs_proto::authpb::Permission as PbPermission;
use crate::grpc::etcd_rs_proto::authpb::permission::Type;
use crate::types::key_range::KeyRange;

/// What may be done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Get and watch.
    Read,
    /// Put and delete.
    Write,
    /// Both.
    ReadWrite,
}

/// What a role may do with a range of keys.
///
/// ```
/// use etcd_blocking::KeyRange;
/// use etcd_blocking::auth::{Access, Permission};
///
/// let permission = Permission::read_write(KeyRange::prefix("app/"));
/// assert_eq!(permission.access(), Access::ReadWrite);
/// assert_eq!(permission.to_string(), "readwrite \"app/\"..\"app0\"");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    access: Access,
    keys: KeyRange,
}

impl Permission {
    /// This access to these keys.
    pub fn new(access: Access, keys: impl Into<KeyRange>) -> Self {
        let keys = keys.into();
        Permission { access, keys }
    }

    /// To get and watch these keys.
    pub fn read(keys: impl Into<KeyRange>) -> Self {
        Permission::new(Access::Read, keys)
    }

    /// To put and delete these keys. Without reading them: a delete that asks for the previous
    /// values needs both.
    pub fn write(keys: impl Into<KeyRange>) -> Self {
        Permission::new(Access::Write, keys)
    }

    /// To do both.
    pub fn read_write(keys: impl Into<KeyRange>) -> Self {
        Permission::new(Access::ReadWrite, keys)
    }

    /// What may be done.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The keys it may be done with.
    pub fn keys(&self) -> &KeyRange {
        &self.keys
    }

    pub(super) fn problem(&self) -> Result<()> {
        problem(&self.keys)
    }

    pub(super) fn message(&self) -> PbPermission {
        let access = match self.access {
            Access::Read => Type::Read,
            Access::Write => Type::Write,
            Access::ReadWrite => Type::Readwrite,
        };
        PbPermission {
            perm_type: access.into(),
            key: self.keys.start().clone(),
            range_end: self.keys.range_end().clone(),
        }
    }

    /// `None` for an access that this version of the crate has no name for.
    pub(super) fn read_from(pb: PbPermission) -> Option<Self> {
        let access = match pb.perm_type() {
            Type::Read if pb.perm_type == 0 => Access::Read,
            Type::Write => Access::Write,
            Type::Readwrite => Access::ReadWrite,
            Type::Read => return None,
        };
        let keys = if pb.range_end.is_empty() {
            KeyRange::key(pb.key)
        } else {
            KeyRange::range(pb.key, pb.range_end)
        };
        Some(Permission { access, keys })
    }
}

pub(super) fn problem(keys: &KeyRange) -> Result<()> {
    match keys.problem() {
        Some(problem) => Err(Error::invalid(problem)),
        None => Ok(()),
    }
}

/// As `etcdctl` calls it: `readwrite "app/".."app0"`.
impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "readwrite",
        };
        write!(f, "{access} {}", self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_the_wire() {
        for permission in [
            Permission::read("k"),
            Permission::write(KeyRange::range("a", "b")),
            Permission::read_write(KeyRange::from_key("a")),
            Permission::read(KeyRange::all()),
        ] {
            let back = Permission::read_from(permission.message());
            assert_eq!(back, Some(permission));
        }
    }

    #[test]
    fn an_unknown_access_is_no_permission() {
        let unknown = PbPermission {
            perm_type: 7,
            ..PbPermission::default()
        };
        assert_eq!(Permission::read_from(unknown), None);
    }

    #[test]
    fn an_empty_range_is_refused() {
        assert!(
            Permission::read(KeyRange::range("b", "a"))
                .problem()
                .is_err()
        );
        assert!(Permission::read("").problem().is_err());
    }
}

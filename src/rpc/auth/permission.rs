//! The permissions of roles.

use std::fmt;

use crate::error::{Error, Result};
use crate::grpc::etcd_rs_proto::authpb::Permission as PbPermission;
use crate::grpc::etcd_rs_proto::authpb::permission::Type;
use crate::types::key_range::KeyRange;

/// The access that a permission grants.
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

/// An access to a range of keys, for a role.
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
    /// Grants this access to these keys.
    pub fn new(access: Access, keys: impl Into<KeyRange>) -> Self {
        let keys = keys.into();
        Permission { access, keys }
    }

    /// Grants getting and watching these keys.
    pub fn read(keys: impl Into<KeyRange>) -> Self {
        Permission::new(Access::Read, keys)
    }

    /// Grants putting and deleting these keys, but not reading them: a deletion that returns the previous
    /// values needs both.
    pub fn write(keys: impl Into<KeyRange>) -> Self {
        Permission::new(Access::Write, keys)
    }

    /// Grants reading and writing these keys.
    pub fn read_write(keys: impl Into<KeyRange>) -> Self {
        Permission::new(Access::ReadWrite, keys)
    }

    /// The granted access.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The keys that the access is granted for.
    pub fn keys(&self) -> &KeyRange {
        &self.keys
    }

    pub(super) fn validate(&self) -> Result<()> {
        check_keys(&self.keys)
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

    /// Decodes a permission; `None` for an access that this version does not support.
    pub(super) fn read_from(pb: PbPermission) -> Option<Self> {
        let access = match pb.perm_type() {
            // The generated code also returns `Read` for an unknown number, because its number is
            // 0.
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

/// Refuses an invalid range.
pub(super) fn check_keys(keys: &KeyRange) -> Result<()> {
    match keys.problem() {
        Some(problem) => Err(Error::invalid(problem)),
        None => Ok(()),
    }
}

/// Prints it like `etcdctl`: `readwrite "app/".."app0"`.
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
    fn a_message_decodes_to_the_same_permission() {
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
    fn an_unknown_access_is_not_decoded() {
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
                .validate()
                .is_err()
        );
        assert!(Permission::read("").validate().is_err());
    }
}

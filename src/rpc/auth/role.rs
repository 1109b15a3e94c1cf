//! Roles: what those who have them may do.

use super::permission::{Permission, problem};
use super::{AuthResponse, exchange, named};
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest,
};
use crate::rpc::kv::header;
use crate::types::ResponseHeader;
use crate::types::key_range::KeyRange;

/// Adds a role, which may do nothing yet.
///
/// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when there is such a role.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct RoleAdd {
    name: String,
}

impl RoleAdd {
    /// Adds this role.
    pub fn new(name: impl Into<String>) -> Self {
        RoleAdd { name: name.into() }
    }

    fn message(&self) -> AuthRoleAddRequest {
        AuthRoleAddRequest {
            name: self.name.clone(),
        }
    }

    fn about(&self) -> Operation {
        Operation::about("role add", format_args!("{:?}", self.name))
    }

    fn problem(&self) -> Result<()> {
        named("role", &self.name)
    }
}

exchange!(RoleAdd, write AuthRoleAddRequest => AuthResponse);

/// Deletes a role, and takes it from all users.
///
/// [`NotFound`](crate::ErrorKind::NotFound) when there is none.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct RoleDelete {
    name: String,
}

impl RoleDelete {
    /// Deletes this role.
    pub fn new(name: impl Into<String>) -> Self {
        RoleDelete { name: name.into() }
    }

    fn message(&self) -> AuthRoleDeleteRequest {
        AuthRoleDeleteRequest {
            role: self.name.clone(),
        }
    }

    fn about(&self) -> Operation {
        Operation::about("role delete", format_args!("{:?}", self.name))
    }

    fn problem(&self) -> Result<()> {
        named("role", &self.name)
    }
}

exchange!(RoleDelete, write AuthRoleDeleteRequest => AuthResponse);

/// Asks what a role may do. Whoever is not `root` may ask about their own roles only.
///
/// [`NotFound`](crate::ErrorKind::NotFound) when there is no such role.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct RoleGet {
    name: String,
}

impl RoleGet {
    /// Asks about this role.
    pub fn new(name: impl Into<String>) -> Self {
        RoleGet { name: name.into() }
    }

    fn message(&self) -> AuthRoleGetRequest {
        AuthRoleGetRequest {
            role: self.name.clone(),
        }
    }

    fn about(&self) -> Operation {
        Operation::about("role get", format_args!("{:?}", self.name))
    }

    fn problem(&self) -> Result<()> {
        named("role", &self.name)
    }
}

exchange!(RoleGet, read AuthRoleGetRequest => RoleGetResponse, names keys);

/// Lists all roles.
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct RoleList {}

impl RoleList {
    /// Lists them.
    pub fn new() -> Self {
        RoleList {}
    }

    fn message(&self) -> AuthRoleListRequest {
        AuthRoleListRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("role list")
    }

    fn problem(&self) -> Result<()> {
        Ok(())
    }
}

exchange!(RoleList, read AuthRoleListRequest => RoleListResponse);

/// Permits a role something. A permission for the same range is replaced.
///
/// [`NotFound`](crate::ErrorKind::NotFound) when there is no such role.
///
/// ```no_run
/// # use etcd_blocking::{Client, KeyRange};
/// # use etcd_blocking::auth::{Permission, RoleGrantPermission};
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = Client::connect(["http://127.0.0.1:2379"])?;
/// let permission = Permission::read_write(KeyRange::prefix("app/"));
/// client.call(RoleGrantPermission::new("app", permission))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct RoleGrantPermission {
    name: String,
    permission: Permission,
}

impl RoleGrantPermission {
    /// Permits this role this.
    pub fn new(name: impl Into<String>, permission: Permission) -> Self {
        RoleGrantPermission {
            name: name.into(),
            permission,
        }
    }

    fn message(&self) -> AuthRoleGrantPermissionRequest {
        AuthRoleGrantPermissionRequest {
            name: self.name.clone(),
            perm: Some(self.permission.message()),
        }
    }

    fn about(&self) -> Operation {
        Operation::about(
            "role grant permission",
            format_args!("{:?} {}", self.name, self.permission),
        )
    }

    fn problem(&self) -> Result<()> {
        named("role", &self.name)?;
        self.permission.problem()
    }
}

exchange!(RoleGrantPermission, write AuthRoleGrantPermissionRequest => AuthResponse, names keys);

/// Takes a permission from a role. The range is exactly the one that was granted.
///
/// [`NotFound`](crate::ErrorKind::NotFound) when the role has no permission for it.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct RoleRevokePermission {
    name: String,
    keys: KeyRange,
}

impl RoleRevokePermission {
    /// Takes from this role what it may do with these keys.
    pub fn new(name: impl Into<String>, keys: impl Into<KeyRange>) -> Self {
        RoleRevokePermission {
            name: name.into(),
            keys: keys.into(),
        }
    }

    fn message(&self) -> AuthRoleRevokePermissionRequest {
        AuthRoleRevokePermissionRequest {
            role: self.name.clone(),
            key: self.keys.start().clone(),
            range_end: self.keys.range_end().clone(),
        }
    }

    fn about(&self) -> Operation {
        Operation::about(
            "role revoke permission",
            format_args!("{:?} {}", self.name, self.keys),
        )
    }

    fn problem(&self) -> Result<()> {
        named("role", &self.name)?;
        problem(&self.keys)
    }
}

exchange!(RoleRevokePermission, write AuthRoleRevokePermissionRequest => AuthResponse, names keys);

/// The answer to a [`RoleGet`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RoleGetResponse {
    header: ResponseHeader,
    permissions: Vec<Permission>,
}

impl RoleGetResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// What the role may do.
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }
}

impl From<AuthRoleGetResponse> for RoleGetResponse {
    fn from(pb: AuthRoleGetResponse) -> Self {
        let permissions = pb.perm.into_iter().filter_map(Permission::read_from);
        RoleGetResponse {
            header: header(pb.header),
            permissions: permissions.collect(),
        }
    }
}

/// The answer to a [`RoleList`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RoleListResponse {
    header: ResponseHeader,
    roles: Vec<String>,
}

impl RoleListResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// All roles, by name.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }
}

impl From<AuthRoleListResponse> for RoleListResponse {
    fn from(pb: AuthRoleListResponse) -> Self {
        RoleListResponse {
            header: header(pb.header),
            roles: pb.roles,
        }
    }
}

//! The requests about roles.

use super::auth_response::AuthResponse;
use super::auth_rpc::{auth_rpc, check_name};
use super::permission::{Permission, check_keys};
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest,
};
use crate::rpc::kv::header;
use crate::types::ResponseHeader;
use crate::types::key_range::KeyRange;

/// Adds a role without permissions.
///
/// The call fails with [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when the role exists.
///
/// ```no_run
/// use etcd_blocking::auth::RoleAdd;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(RoleAdd::new("reader"))?;
/// # Ok(()) }
/// ```
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

    fn validate(&self) -> Result<()> {
        check_name("role", &self.name)
    }
}

auth_rpc!(RoleAdd, write AuthRoleAddRequest => AuthResponse);

/// Deletes a role, and revokes it from all users.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the role does not exist.
///
/// ```no_run
/// use etcd_blocking::auth::RoleDelete;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(RoleDelete::new("reader"))?;
/// # Ok(()) }
/// ```
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

    fn validate(&self) -> Result<()> {
        check_name("role", &self.name)
    }
}

auth_rpc!(RoleDelete, write AuthRoleDeleteRequest => AuthResponse);

/// Reads the permissions of a role. Users other than `root` may read their own roles only.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the role does not exist.
///
/// ```no_run
/// use etcd_blocking::auth::RoleGet;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// println!("{:?}", client.call(RoleGet::new("reader"))?.permissions());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct RoleGet {
    name: String,
}

impl RoleGet {
    /// Reads this role.
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

    fn validate(&self) -> Result<()> {
        check_name("role", &self.name)
    }
}

auth_rpc!(RoleGet, read AuthRoleGetRequest => RoleGetResponse, names keys);

/// Lists all roles.
///
/// ```no_run
/// use etcd_blocking::auth::RoleList;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// println!("{:?}", client.call(RoleList::new())?.roles());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct RoleList {}

impl RoleList {
    /// Lists all of them.
    pub fn new() -> Self {
        RoleList {}
    }

    fn message(&self) -> AuthRoleListRequest {
        AuthRoleListRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("role list")
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

auth_rpc!(RoleList, read AuthRoleListRequest => RoleListResponse);

/// Grants a permission to a role. It replaces a permission for the same range.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the role does not exist.
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
    /// Grants `permission` to this role.
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

    fn validate(&self) -> Result<()> {
        check_name("role", &self.name)?;
        self.permission.validate()
    }
}

auth_rpc!(RoleGrantPermission, write AuthRoleGrantPermissionRequest => AuthResponse, names keys);

/// Revokes a permission from a role. The range must be exactly the granted one.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the role has no permission for it.
///
/// ```no_run
/// use etcd_blocking::KeyRange;
/// use etcd_blocking::auth::RoleRevokePermission;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(RoleRevokePermission::new("reader", KeyRange::prefix("app/")))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct RoleRevokePermission {
    name: String,
    keys: KeyRange,
}

impl RoleRevokePermission {
    /// Revokes the permission of this role for these keys.
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

    fn validate(&self) -> Result<()> {
        check_name("role", &self.name)?;
        check_keys(&self.keys)
    }
}

auth_rpc!(RoleRevokePermission, write AuthRoleRevokePermissionRequest => AuthResponse, names keys);

/// The response to a [`RoleGet`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RoleGetResponse {
    header: ResponseHeader,
    permissions: Vec<Permission>,
}

impl RoleGetResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The permissions of the role.
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

/// The response to a [`RoleList`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RoleListResponse {
    header: ResponseHeader,
    roles: Vec<String>,
}

impl RoleListResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The names of all roles.
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

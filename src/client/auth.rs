//! The verbs about users, roles and permissions.

use super::Client;
use crate::error::Result;
use crate::rpc::auth::{
    AuthDisable, AuthEnable, AuthResponse, AuthStatus, AuthStatusResponse, Permission, RoleAdd,
    RoleDelete, RoleGet, RoleGetResponse, RoleGrantPermission, RoleList, RoleListResponse,
    RoleRevokePermission, UserAdd, UserChangePassword, UserDelete, UserGet, UserGetResponse,
    UserGrantRole, UserList, UserListResponse, UserRevokeRole,
};
use crate::types::key_range::KeyRange;

/// Users, roles and permissions. All but [`auth_status`](Client::auth_status),
/// [`user_get`](Client::user_get) and [`role_get`](Client::role_get) need the role `root` once
/// authentication is on.
///
/// ```no_run
/// # use etcd_blocking::{Client, KeyRange, Permission};
/// # fn main() -> etcd_blocking::Result<()> {
/// # let (root_password, password) = (String::new(), String::new());
/// # let client = Client::connect(["unix:/run/etcd.sock"])?;
/// client.role_add("app")?;
/// client.role_grant_permission("app", Permission::read_write(KeyRange::prefix("app/")))?;
/// client.user_add("api", password)?;
/// client.user_grant_role("api", "app")?;
///
/// client.user_add("root", root_password)?;
/// client.user_grant_role("root", "root")?;
/// client.auth_enable()?;
/// # Ok(()) }
/// ```
impl Client {
    /// Switches authentication on for the whole cluster: see [`AuthEnable`].
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`AuthEnable`].
    pub fn auth_enable(&self) -> Result<AuthResponse> {
        self.call(AuthEnable::new())
    }

    /// Switches authentication off for the whole cluster.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put).
    pub fn auth_disable(&self) -> Result<AuthResponse> {
        self.call(AuthDisable::new())
    }

    /// Whether authentication is on: see [`AuthStatus`].
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`AuthStatus`].
    pub fn auth_status(&self) -> Result<AuthStatusResponse> {
        self.call(AuthStatus::new())
    }

    /// Adds a user. [`UserAdd::no_password`] is for one who has none.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserAdd`].
    pub fn user_add(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<AuthResponse> {
        self.call(UserAdd::new(name, password))
    }

    /// Deletes a user.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserDelete`].
    pub fn user_delete(&self, name: impl Into<String>) -> Result<AuthResponse> {
        self.call(UserDelete::new(name))
    }

    /// The roles of a user.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`UserGet`].
    pub fn user_get(&self, name: impl Into<String>) -> Result<UserGetResponse> {
        self.call(UserGet::new(name))
    }

    /// All users.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn user_list(&self) -> Result<UserListResponse> {
        self.call(UserList::new())
    }

    /// Changes the password of a user; the tokens that the old one got are void.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserChangePassword`].
    pub fn user_change_password(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<AuthResponse> {
        self.call(UserChangePassword::new(name, password))
    }

    /// Gives a user a role.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserGrantRole`].
    pub fn user_grant_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<AuthResponse> {
        self.call(UserGrantRole::new(user, role))
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserRevokeRole`].
    pub fn user_revoke_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<AuthResponse> {
        self.call(UserRevokeRole::new(user, role))
    }

    /// Adds a role, which may do nothing yet.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`RoleAdd`].
    pub fn role_add(&self, name: impl Into<String>) -> Result<AuthResponse> {
        self.call(RoleAdd::new(name))
    }

    /// Deletes a role.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`RoleDelete`].
    pub fn role_delete(&self, name: impl Into<String>) -> Result<AuthResponse> {
        self.call(RoleDelete::new(name))
    }

    /// What a role may do.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`RoleGet`].
    pub fn role_get(&self, name: impl Into<String>) -> Result<RoleGetResponse> {
        self.call(RoleGet::new(name))
    }

    /// All roles.
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn role_list(&self) -> Result<RoleListResponse> {
        self.call(RoleList::new())
    }

    /// Permits a role something.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`RoleGrantPermission`].
    pub fn role_grant_permission(
        &self,
        role: impl Into<String>,
        permission: Permission,
    ) -> Result<AuthResponse> {
        self.call(RoleGrantPermission::new(role, permission))
    }

    /// Takes from a role what it may do with exactly this range.
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`RoleRevokePermission`].
    pub fn role_revoke_permission(
        &self,
        role: impl Into<String>,
        keys: impl Into<KeyRange>,
    ) -> Result<AuthResponse> {
        self.call(RoleRevokePermission::new(role, keys))
    }
}

//! The verbs of the auth service.

use super::Client;
use crate::error::Result;
use crate::rpc::auth::{
    AuthDisable, AuthEnable, AuthResponse, AuthStatus, AuthStatusResponse, Permission, RoleAdd,
    RoleDelete, RoleGet, RoleGetResponse, RoleGrantPermission, RoleList, RoleListResponse,
    RoleRevokePermission, UserAdd, UserChangePassword, UserDelete, UserGet, UserGetResponse,
    UserGrantRole, UserList, UserListResponse, UserRevokeRole,
};
use crate::types::key_range::KeyRange;

/// The verbs of users, roles and permissions, returned by [`Client::auth`].
///
/// A handle is cheap to clone and shares everything with its client.
///
/// Each verb blocks for at most the client's [timeout](Client::timeout).
///
/// All verbs but [`status`](crate::auth::Auth::status),
/// [`user_get`](crate::auth::Auth::user_get) and [`role_get`](crate::auth::Auth::role_get) need the role `root` once
/// authentication is on.
///
/// ```no_run
/// # use etcd_blocking::{Client, KeyRange};
/// # use etcd_blocking::auth::Permission;
/// # fn main() -> etcd_blocking::Result<()> {
/// # let (root_password, password) = (String::new(), String::new());
/// # let client = Client::connect(["unix:/run/etcd.sock"])?;
/// client.auth().role_add("app")?;
/// client.auth().role_grant_permission("app", Permission::read_write(KeyRange::prefix("app/")))?;
/// client.auth().user_add("api", password)?;
/// client.auth().user_grant_role("api", "app")?;
///
/// client.auth().user_add("root", root_password)?;
/// client.auth().user_grant_role("root", "root")?;
/// client.auth().enable()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Auth {
    client: Client,
}

impl Client {
    /// Returns the verbs of users, roles and permissions.
    ///
    /// They use the timeout, the endpoints and the namespace of this client.
    pub fn auth(&self) -> Auth {
        Auth {
            client: self.clone(),
        }
    }
}

impl Auth {
    /// Enables authentication for the whole cluster: see [`AuthEnable`].
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().enable()?; // needs the user `root` with the role `root`
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`AuthEnable`].
    pub fn enable(&self) -> Result<AuthResponse> {
        self.client.call(AuthEnable::new())
    }

    /// Disables authentication for the whole cluster.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().disable()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put).
    pub fn disable(&self) -> Result<AuthResponse> {
        self.client.call(AuthDisable::new())
    }

    /// Reads whether authentication is enabled: see [`AuthStatus`].
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("enabled: {}", client.auth().status()?.is_enabled());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`AuthStatus`].
    pub fn status(&self) -> Result<AuthStatusResponse> {
        self.client.call(AuthStatus::new())
    }

    /// Adds a user with a password. [`UserAdd::no_password`] adds a user without one.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().user_add("api", std::env::var("API_PASSWORD").unwrap_or_default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserAdd`].
    pub fn user_add(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<AuthResponse> {
        self.client.call(UserAdd::new(name, password))
    }

    /// Deletes a user.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().user_delete("api")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserDelete`].
    pub fn user_delete(&self, name: impl Into<String>) -> Result<AuthResponse> {
        self.client.call(UserDelete::new(name))
    }

    /// Returns the roles of a user.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("roles: {:?}", client.auth().user_get("api")?.roles());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`UserGet`].
    pub fn user_get(&self, name: impl Into<String>) -> Result<UserGetResponse> {
        self.client.call(UserGet::new(name))
    }

    /// Returns the names of all users.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("users: {:?}", client.auth().user_list()?.users());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn user_list(&self) -> Result<UserListResponse> {
        self.client.call(UserList::new())
    }

    /// Changes the password of a user. Tokens from the old password become invalid.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().user_change_password("api", std::env::var("API_PASSWORD").unwrap_or_default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserChangePassword`].
    pub fn user_change_password(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<AuthResponse> {
        self.client.call(UserChangePassword::new(name, password))
    }

    /// Grants a role to a user.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().user_grant_role("api", "reader")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserGrantRole`].
    pub fn user_grant_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<AuthResponse> {
        self.client.call(UserGrantRole::new(user, role))
    }

    /// Revokes a role from a user.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().user_revoke_role("api", "reader")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`UserRevokeRole`].
    pub fn user_revoke_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<AuthResponse> {
        self.client.call(UserRevokeRole::new(user, role))
    }

    /// Adds a role without permissions.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().role_add("reader")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`RoleAdd`].
    pub fn role_add(&self, name: impl Into<String>) -> Result<AuthResponse> {
        self.client.call(RoleAdd::new(name))
    }

    /// Deletes a role.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().role_delete("reader")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`RoleDelete`].
    pub fn role_delete(&self, name: impl Into<String>) -> Result<AuthResponse> {
        self.client.call(RoleDelete::new(name))
    }

    /// Returns the permissions of a role.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// for permission in client.auth().role_get("reader")?.permissions() {
    ///     println!("{permission:?}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call), and those of [`RoleGet`].
    pub fn role_get(&self, name: impl Into<String>) -> Result<RoleGetResponse> {
        self.client.call(RoleGet::new(name))
    }

    /// Returns the names of all roles.
    ///
    /// ```no_run
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// println!("roles: {:?}", client.auth().role_list()?.roles());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Client::call).
    pub fn role_list(&self) -> Result<RoleListResponse> {
        self.client.call(RoleList::new())
    }

    /// Grants a permission to a role.
    ///
    /// ```no_run
    /// use etcd_blocking::{KeyRange, auth::Permission};
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// let permission = Permission::read(KeyRange::prefix("app/"));
    /// client.auth().role_grant_permission("reader", permission)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`RoleGrantPermission`].
    pub fn role_grant_permission(
        &self,
        role: impl Into<String>,
        permission: Permission,
    ) -> Result<AuthResponse> {
        self.client.call(RoleGrantPermission::new(role, permission))
    }

    /// Revokes the permission of a role for exactly this range.
    ///
    /// ```no_run
    /// use etcd_blocking::KeyRange;
    ///
    /// # fn main() -> etcd_blocking::Result<()> {
    /// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
    /// client.auth().role_revoke_permission("reader", KeyRange::prefix("app/"))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Client::put), and those of [`RoleRevokePermission`].
    pub fn role_revoke_permission(
        &self,
        role: impl Into<String>,
        keys: impl Into<KeyRange>,
    ) -> Result<AuthResponse> {
        self.client.call(RoleRevokePermission::new(role, keys))
    }
}

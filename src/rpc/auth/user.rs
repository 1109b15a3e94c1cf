//! The requests about users.

use super::auth_response::AuthResponse;
use super::auth_rpc::{auth_rpc, check_name};
use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::authpb::UserAddOptions;
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest,
};
use crate::rpc::kv::header;
use crate::types::ResponseHeader;
use crate::util::secret::Secret;

/// Adds a user.
///
/// The server hashes the password. `Debug` does not print it.
/// The call fails with [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when the user exists.
///
/// ```no_run
/// use etcd_blocking::auth::UserAdd;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(UserAdd::no_password("api"))?; // identified by a certificate
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is called"]
pub struct UserAdd {
    name: String,
    password: Option<Secret>,
}

impl UserAdd {
    /// Adds this user with this password.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        UserAdd {
            name: name.into(),
            password: Some(Secret::new(password)),
        }
    }

    /// Adds a user without a password, who authenticates with the name in a client certificate only.
    /// etcd before 3.4 ignores the option.
    pub fn no_password(name: impl Into<String>) -> Self {
        UserAdd {
            name: name.into(),
            password: None,
        }
    }

    fn message(&self) -> AuthUserAddRequest {
        AuthUserAddRequest {
            name: self.name.clone(),
            password: self.password.as_ref().map_or("", Secret::reveal).to_owned(),
            options: Some(UserAddOptions {
                no_password: self.password.is_none(),
            }),
            ..AuthUserAddRequest::default()
        }
    }

    fn about(&self) -> Operation {
        Operation::about("user add", format_args!("{:?}", self.name))
    }

    fn validate(&self) -> Result<()> {
        check_name("user", &self.name)?;
        match &self.password {
            Some(password) => not_empty(password),
            None => Ok(()),
        }
    }
}

auth_rpc!(UserAdd, write AuthUserAddRequest => AuthResponse);

/// Deletes a user. The tokens of the user are invalid at once. For running watches see
/// [`Watcher`](crate::Watcher).
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the user does not exist. The user `root` cannot be deleted while
/// authentication is on.
///
/// ```no_run
/// use etcd_blocking::auth::UserDelete;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(UserDelete::new("api"))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct UserDelete {
    name: String,
}

impl UserDelete {
    /// Deletes this user.
    pub fn new(name: impl Into<String>) -> Self {
        UserDelete { name: name.into() }
    }

    fn message(&self) -> AuthUserDeleteRequest {
        AuthUserDeleteRequest {
            name: self.name.clone(),
        }
    }

    fn about(&self) -> Operation {
        Operation::about("user delete", format_args!("{:?}", self.name))
    }

    fn validate(&self) -> Result<()> {
        check_name("user", &self.name)
    }
}

auth_rpc!(UserDelete, write AuthUserDeleteRequest => AuthResponse);

/// Reads the roles of a user. Users other than `root` may read their own only.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the user does not exist.
///
/// ```no_run
/// use etcd_blocking::auth::UserGet;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// println!("{:?}", client.call(UserGet::new("api"))?.roles());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct UserGet {
    name: String,
}

impl UserGet {
    /// Reads this user.
    pub fn new(name: impl Into<String>) -> Self {
        UserGet { name: name.into() }
    }

    fn message(&self) -> AuthUserGetRequest {
        AuthUserGetRequest {
            name: self.name.clone(),
        }
    }

    fn about(&self) -> Operation {
        Operation::about("user get", format_args!("{:?}", self.name))
    }

    fn validate(&self) -> Result<()> {
        check_name("user", &self.name)
    }
}

auth_rpc!(UserGet, read AuthUserGetRequest => UserGetResponse);

/// Lists all users.
///
/// ```no_run
/// use etcd_blocking::auth::UserList;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// println!("{:?}", client.call(UserList::new())?.users());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct UserList {}

impl UserList {
    /// Lists all of them.
    pub fn new() -> Self {
        UserList {}
    }

    fn message(&self) -> AuthUserListRequest {
        AuthUserListRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("user list")
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

auth_rpc!(UserList, read AuthUserListRequest => UserListResponse);

/// Changes the password of a user. Tokens from the old password are invalid at once.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the user does not exist.
///
/// ```no_run
/// use etcd_blocking::auth::UserChangePassword;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let password = std::env::var("API_PASSWORD").unwrap_or_default();
/// client.call(UserChangePassword::new("api", password))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is called"]
pub struct UserChangePassword {
    name: String,
    password: Secret,
}

impl UserChangePassword {
    /// Sets the password of this user.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        UserChangePassword {
            name: name.into(),
            password: Secret::new(password),
        }
    }

    fn message(&self) -> AuthUserChangePasswordRequest {
        AuthUserChangePasswordRequest {
            name: self.name.clone(),
            password: self.password.reveal().to_owned(),
            ..AuthUserChangePasswordRequest::default()
        }
    }

    fn about(&self) -> Operation {
        Operation::about("user change password", format_args!("{:?}", self.name))
    }

    fn validate(&self) -> Result<()> {
        check_name("user", &self.name)?;
        not_empty(&self.password)
    }
}

auth_rpc!(UserChangePassword, write AuthUserChangePasswordRequest => AuthResponse);

/// Grants a role to a user.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the user or the role does not exist.
///
/// ```no_run
/// use etcd_blocking::auth::UserGrantRole;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(UserGrantRole::new("api", "reader"))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct UserGrantRole {
    user: String,
    role: String,
}

impl UserGrantRole {
    /// Grants `role` to `user`.
    pub fn new(user: impl Into<String>, role: impl Into<String>) -> Self {
        UserGrantRole {
            user: user.into(),
            role: role.into(),
        }
    }

    fn message(&self) -> AuthUserGrantRoleRequest {
        AuthUserGrantRoleRequest {
            user: self.user.clone(),
            role: self.role.clone(),
        }
    }

    fn about(&self) -> Operation {
        Operation::about(
            "user grant role",
            format_args!("{:?} {:?}", self.user, self.role),
        )
    }

    fn validate(&self) -> Result<()> {
        check_name("user", &self.user)?;
        check_name("role", &self.role)
    }
}

auth_rpc!(UserGrantRole, write AuthUserGrantRoleRequest => AuthResponse);

/// Revokes a role from a user. It applies to calls at once, and to a running watch only when the watch
/// is created again.
///
/// The call fails with [`NotFound`](crate::ErrorKind::NotFound) when the user does not have the role.
///
/// ```no_run
/// use etcd_blocking::auth::UserRevokeRole;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(UserRevokeRole::new("api", "reader"))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct UserRevokeRole {
    user: String,
    role: String,
}

impl UserRevokeRole {
    /// Revokes `role` from `user`.
    pub fn new(user: impl Into<String>, role: impl Into<String>) -> Self {
        UserRevokeRole {
            user: user.into(),
            role: role.into(),
        }
    }

    fn message(&self) -> AuthUserRevokeRoleRequest {
        AuthUserRevokeRoleRequest {
            name: self.user.clone(),
            role: self.role.clone(),
        }
    }

    fn about(&self) -> Operation {
        Operation::about(
            "user revoke role",
            format_args!("{:?} {:?}", self.user, self.role),
        )
    }

    fn validate(&self) -> Result<()> {
        check_name("user", &self.user)?;
        check_name("role", &self.role)
    }
}

auth_rpc!(UserRevokeRole, write AuthUserRevokeRoleRequest => AuthResponse);

fn not_empty(password: &Secret) -> Result<()> {
    match password.reveal().is_empty() {
        true => Err(Error::invalid(
            "the password is empty: set one, or add the user with UserAdd::no_password",
        )),
        false => Ok(()),
    }
}

/// The response to a [`UserGet`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UserGetResponse {
    header: ResponseHeader,
    roles: Vec<String>,
}

impl UserGetResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The roles of the user, by name.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }
}

impl From<AuthUserGetResponse> for UserGetResponse {
    fn from(pb: AuthUserGetResponse) -> Self {
        UserGetResponse {
            header: header(pb.header),
            roles: pb.roles,
        }
    }
}

/// The response to a [`UserList`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UserListResponse {
    header: ResponseHeader,
    users: Vec<String>,
}

impl UserListResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The names of all users.
    pub fn users(&self) -> &[String] {
        &self.users
    }
}

impl From<AuthUserListResponse> for UserListResponse {
    fn from(pb: AuthUserListResponse) -> Self {
        UserListResponse {
            header: header(pb.header),
            users: pb.users,
        }
    }
}

//! Users: who there is, and which roles they have.

use super::{AuthResponse, exchange, named};
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
/// The password is hashed by the server, and does not print here.
/// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when there is such a user.
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

    /// Adds a user who has no password, and is known by the name in a client certificate only.
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

    fn problem(&self) -> Result<()> {
        named("user", &self.name)?;
        match &self.password {
            Some(password) => not_empty(password),
            None => Ok(()),
        }
    }
}

exchange!(UserAdd, write AuthUserAddRequest => AuthResponse);

/// Deletes a user. What the user was doing ends: tokens are void at once, see
/// [`Client::watch`](crate::Client::watch) for watches.
///
/// [`NotFound`](crate::ErrorKind::NotFound) when there is none. The user `root` cannot be deleted while
/// authentication is on.
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

    fn problem(&self) -> Result<()> {
        named("user", &self.name)
    }
}

exchange!(UserDelete, write AuthUserDeleteRequest => AuthResponse);

/// Asks which roles a user has. Whoever is not `root` may ask about themselves only.
///
/// [`NotFound`](crate::ErrorKind::NotFound) when there is no such user.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct UserGet {
    name: String,
}

impl UserGet {
    /// Asks about this user.
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

    fn problem(&self) -> Result<()> {
        named("user", &self.name)
    }
}

exchange!(UserGet, read AuthUserGetRequest => UserGetResponse);

/// Lists all users.
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct UserList {}

impl UserList {
    /// Lists them.
    pub fn new() -> Self {
        UserList {}
    }

    fn message(&self) -> AuthUserListRequest {
        AuthUserListRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("user list")
    }

    fn problem(&self) -> Result<()> {
        Ok(())
    }
}

exchange!(UserList, read AuthUserListRequest => UserListResponse);

/// Changes the password of a user. Tokens that were made with the old one are void at once.
///
/// [`NotFound`](crate::ErrorKind::NotFound) when there is no such user.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is called"]
pub struct UserChangePassword {
    name: String,
    password: Secret,
}

impl UserChangePassword {
    /// Gives this user this password.
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

    fn problem(&self) -> Result<()> {
        named("user", &self.name)?;
        not_empty(&self.password)
    }
}

exchange!(UserChangePassword, write AuthUserChangePasswordRequest => AuthResponse);

/// Gives a user a role.
///
/// [`NotFound`](crate::ErrorKind::NotFound) when there is no such user or role.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct UserGrantRole {
    user: String,
    role: String,
}

impl UserGrantRole {
    /// Gives this user this role.
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

    fn problem(&self) -> Result<()> {
        named("user", &self.user)?;
        named("role", &self.role)
    }
}

exchange!(UserGrantRole, write AuthUserGrantRoleRequest => AuthResponse);

/// Takes a role from a user. Calls of the user feel it at once; a watch that is running, only when it
/// has to be created anew.
///
/// [`NotFound`](crate::ErrorKind::NotFound) when the user does not have it.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct UserRevokeRole {
    user: String,
    role: String,
}

impl UserRevokeRole {
    /// Takes this role from this user.
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

    fn problem(&self) -> Result<()> {
        named("user", &self.user)?;
        named("role", &self.role)
    }
}

exchange!(UserRevokeRole, write AuthUserRevokeRoleRequest => AuthResponse);

fn not_empty(password: &Secret) -> Result<()> {
    match password.reveal().is_empty() {
        true => Err(Error::invalid("the password is empty")),
        false => Ok(()),
    }
}

/// The answer to a [`UserGet`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UserGetResponse {
    header: ResponseHeader,
    roles: Vec<String>,
}

impl UserGetResponse {
    /// Who answered.
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

/// The answer to a [`UserList`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct UserListResponse {
    header: ResponseHeader,
    users: Vec<String>,
}

impl UserListResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// All users, by name.
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

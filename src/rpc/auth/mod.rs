//! Users, roles and permissions: the requests and their responses.
//!
//! Who this client is, and its token, are not here but in `transport/token`.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod authenticate;
mod enable;
mod permission;
mod role;
mod user;

pub use authenticate::{Authenticate, AuthenticateResponse};
pub use enable::{AuthDisable, AuthEnable, AuthStatus, AuthStatusResponse};
pub use permission::{Access, Permission};
pub use role::{
    RoleAdd, RoleDelete, RoleGet, RoleGetResponse, RoleGrantPermission, RoleList, RoleListResponse,
    RoleRevokePermission,
};
pub use user::{
    UserAdd, UserChangePassword, UserDelete, UserGet, UserGetResponse, UserGrantRole, UserList,
    UserListResponse, UserRevokeRole,
};

use crate::error::{Error, Result};
use crate::types::ResponseHeader;

/// The answer to a request that changes users, roles or permissions: who answered.
///
/// Such changes make no revision of the store.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct AuthResponse {
    header: ResponseHeader,
}

impl AuthResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

/// Ties a request to its call: its type has `message`, `about` and `problem`. One whose permissions
/// name keys says `names keys`.
macro_rules! exchange {
    ($request:ty, $mode:ident $message:ty => $response:ty) => {
        exchange!($request, $mode $message => $response, |request| {
            Ok($crate::rpc::request::Namespaced::keyless(request))
        });
    };
    ($request:ty, $mode:ident $message:ty => $response:ty, names keys) => {
        exchange!($request, $mode $message => $response, |_| Err(super::names_keys()));
    };
    ($request:ty, $mode:ident $message:ty => $response:ty, $within:expr) => {
        impl $crate::rpc::request::sealed::Rpc for $request {
            type Response = $response;

            fn operation(&self) -> $crate::error::Operation {
                self.about()
            }

            fn check(&self) -> $crate::error::Result<()> {
                self.problem()
            }

            fn within(
                self,
                _: &$crate::rpc::namespace::Namespace,
            ) -> $crate::error::Result<$crate::rpc::request::Namespaced<Self>> {
                type Within<R> = fn(R) -> $crate::error::Result<$crate::rpc::request::Namespaced<R>>;
                let within: Within<Self> = $within;
                within(self)
            }

            $crate::rpc::request::unary_rpc!($mode $message);
        }
    };
}
use exchange;

/// Messages whose only content is the header.
macro_rules! header_only {
    ($($message:ident),* $(,)?) => {
        $(
            impl From<$crate::grpc::etcd_rs_proto::etcdserverpb::$message> for AuthResponse {
                fn from(pb: $crate::grpc::etcd_rs_proto::etcdserverpb::$message) -> Self {
                    AuthResponse { header: $crate::rpc::kv::header(pb.header) }
                }
            }
        )*
    };
}

header_only!(
    AuthEnableResponse,
    AuthDisableResponse,
    AuthUserAddResponse,
    AuthUserDeleteResponse,
    AuthUserChangePasswordResponse,
    AuthUserGrantRoleResponse,
    AuthUserRevokeRoleResponse,
    AuthRoleAddResponse,
    AuthRoleDeleteResponse,
    AuthRoleGrantPermissionResponse,
    AuthRoleRevokePermissionResponse,
);

/// Permissions are the cluster's: a key in one that was written inside a namespace could mean either.
fn names_keys() -> Error {
    Error::invalid(
        "permissions name keys as the server has them, and not inside a namespace: use the client \
         without one",
    )
}

/// The server takes an empty name for a missing token, or for a user that does not exist.
fn named(what: &str, name: &str) -> Result<()> {
    match name.is_empty() {
        true => Err(Error::invalid(format!("the name of the {what} is empty"))),
        false => Ok(()),
    }
}

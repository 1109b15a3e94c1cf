//! The auth service: requests and responses about users, roles and permissions.
//!
//! The user and the token of the client itself are in `grpc/token`.

#![allow(
    private_interfaces,
    reason = "the trait that ties a request to its response is sealed"
)]

mod auth_response;
mod auth_rpc;
mod auth_switch;
mod authenticate;
mod permission;
mod role;
mod user;

pub use auth_response::AuthResponse;
pub use auth_switch::{AuthDisable, AuthEnable, AuthStatus, AuthStatusResponse};
pub use authenticate::{Authenticate, AuthenticateResponse};
pub use permission::{Access, Permission};
pub use role::{
    RoleAdd, RoleDelete, RoleGet, RoleGetResponse, RoleGrantPermission, RoleList, RoleListResponse,
    RoleRevokePermission,
};
pub use user::{
    UserAdd, UserChangePassword, UserDelete, UserGet, UserGetResponse, UserGrantRole, UserList,
    UserListResponse, UserRevokeRole,
};

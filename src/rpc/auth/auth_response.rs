//! The response of the requests that change users, roles or permissions.

use crate::types::ResponseHeader;

/// The response to a request that changes users, roles or permissions.
///
/// Such a change creates no revision of the store.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct AuthResponse {
    header: ResponseHeader,
}

impl AuthResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }
}

/// Converts the messages that have a header only.
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

//! The requests that enable and disable authentication, and read its status.

use super::auth_response::AuthResponse;
use super::auth_rpc::auth_rpc;
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthStatusRequest, AuthStatusResponse as PbStatus,
};
use crate::rpc::kv::header;
use crate::types::ResponseHeader;

/// Enables authentication for the whole cluster.
///
/// The user `root` must exist and have the role `root`; otherwise the call fails with
/// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition). Afterwards the server refuses almost
/// all requests of clients without a user. It has no effect if authentication is enabled.
///
/// ```no_run
/// use etcd_blocking::auth::AuthEnable;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(AuthEnable::new())?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct AuthEnable {}

impl AuthEnable {
    /// Enables authentication.
    pub fn new() -> Self {
        AuthEnable {}
    }

    fn message(&self) -> AuthEnableRequest {
        AuthEnableRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("auth enable")
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

auth_rpc!(AuthEnable, write AuthEnableRequest => AuthResponse);

/// Disables authentication for the whole cluster: every client has all permissions. Users and roles are
/// kept.
///
/// ```no_run
/// use etcd_blocking::auth::AuthDisable;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(AuthDisable::new())?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct AuthDisable {}

impl AuthDisable {
    /// Disables authentication.
    pub fn new() -> Self {
        AuthDisable {}
    }

    fn message(&self) -> AuthDisableRequest {
        AuthDisableRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("auth disable")
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

auth_rpc!(AuthDisable, write AuthDisableRequest => AuthResponse);

/// Reads whether authentication is enabled.
///
/// The call fails with [`Unimplemented`](crate::ErrorKind::Unimplemented) before etcd 3.5. Servers before
/// 3.7 answer only the user `root` while authentication is enabled.
///
/// ```no_run
/// use etcd_blocking::auth::AuthStatus;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// let status = client.call(AuthStatus::new())?;
/// println!("enabled: {}, revision {}", status.is_enabled(), status.auth_revision());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct AuthStatus {}

impl AuthStatus {
    /// Reads the status.
    pub fn new() -> Self {
        AuthStatus {}
    }

    fn message(&self) -> AuthStatusRequest {
        AuthStatusRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("auth status")
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

auth_rpc!(AuthStatus, read AuthStatusRequest => AuthStatusResponse);

/// The response to an [`AuthStatus`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct AuthStatusResponse {
    header: ResponseHeader,
    enabled: bool,
    revision: u64,
}

impl AuthStatusResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Whether authentication is enabled.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The revision of users, roles and permissions, which each change of them increases. It is not
    /// related to the [`Revision`](crate::Revision) of the store.
    pub fn auth_revision(&self) -> u64 {
        self.revision
    }
}

impl From<PbStatus> for AuthStatusResponse {
    fn from(pb: PbStatus) -> Self {
        AuthStatusResponse {
            header: header(pb.header),
            enabled: pb.enabled,
            revision: pb.auth_revision,
        }
    }
}

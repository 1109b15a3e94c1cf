//! Authentication as a whole: on, off, and which it is.

use super::{AuthResponse, exchange};
use crate::error::{Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthStatusRequest, AuthStatusResponse as PbStatus,
};
use crate::rpc::kv::header;
use crate::types::ResponseHeader;

/// Switches authentication on for the whole cluster.
///
/// The user `root` must exist and have the role `root`, or it is refused as
/// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition). From then on a client without a user
/// can do next to nothing. Switching on what is on does nothing.
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct AuthEnable {}

impl AuthEnable {
    /// Switches it on.
    pub fn new() -> Self {
        AuthEnable {}
    }

    fn message(&self) -> AuthEnableRequest {
        AuthEnableRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("auth enable")
    }

    fn problem(&self) -> Result<()> {
        Ok(())
    }
}

exchange!(AuthEnable, write AuthEnableRequest => AuthResponse);

/// Switches authentication off for the whole cluster: everybody may do everything. Users and roles
/// stay as they are.
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct AuthDisable {}

impl AuthDisable {
    /// Switches it off.
    pub fn new() -> Self {
        AuthDisable {}
    }

    fn message(&self) -> AuthDisableRequest {
        AuthDisableRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("auth disable")
    }

    fn problem(&self) -> Result<()> {
        Ok(())
    }
}

exchange!(AuthDisable, write AuthDisableRequest => AuthResponse);

/// Asks whether authentication is on.
///
/// [`Unimplemented`](crate::ErrorKind::Unimplemented) before etcd 3.5. Servers before 3.7 answer only
/// to the user `root` while it is on.
#[derive(Clone, Debug, PartialEq, Default)]
#[must_use = "a request does nothing until it is called"]
pub struct AuthStatus {}

impl AuthStatus {
    /// Asks.
    pub fn new() -> Self {
        AuthStatus {}
    }

    fn message(&self) -> AuthStatusRequest {
        AuthStatusRequest {}
    }

    fn about(&self) -> Operation {
        Operation::new("auth status")
    }

    fn problem(&self) -> Result<()> {
        Ok(())
    }
}

exchange!(AuthStatus, read AuthStatusRequest => AuthStatusResponse);

/// The answer to an [`AuthStatus`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct AuthStatusResponse {
    header: ResponseHeader,
    enabled: bool,
    revision: u64,
}

impl AuthStatusResponse {
    /// Who answered.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Whether authentication is on.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The revision of users, roles and permissions: every change of them makes one. It has nothing
    /// to do with the [`Revision`](crate::Revision) of the store.
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

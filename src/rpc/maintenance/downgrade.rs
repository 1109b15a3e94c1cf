//! Downgrading the cluster to the previous minor release.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use crate::error::{Error, Operation, Result};
use crate::grpc::etcd_rs_proto::etcdserverpb::downgrade_request::DowngradeAction;
use crate::grpc::etcd_rs_proto::etcdserverpb::{DowngradeRequest, DowngradeResponse as Pb};
use crate::grpc::{Call, Framed, Transport};
use crate::rpc::kv::header;
use crate::rpc::namespace::Namespace;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;
use crate::types::ResponseHeader;

/// Validates, enables or cancels the downgrade of the cluster to the previous minor release (since etcd
/// 3.5).
///
/// ```no_run
/// use etcd_blocking::maintenance::Downgrade;
///
/// # fn main() -> etcd_blocking::Result<()> {
/// # let client = etcd_blocking::Client::connect("http://127.0.0.1:2379")?;
/// client.call(Downgrade::validate("3.6.0"))?;
/// client.call(Downgrade::enable("3.6.0"))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is called"]
pub struct Downgrade {
    action: DowngradeAction,
    version: String,
}

impl Downgrade {
    /// Checks whether a downgrade to this version, such as `3.6.0`, is possible. It changes nothing.
    ///
    /// The call fails with [`InvalidArgument`](crate::ErrorKind::InvalidArgument) when the version is
    /// invalid, or is not that of the previous minor release, and with
    /// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition) during another downgrade.
    pub fn validate(version: impl Into<String>) -> Self {
        Downgrade::new(DowngradeAction::Validate, version.into())
    }

    /// Begins a downgrade to this version. Afterwards members of that release can be started. The errors
    /// are those of [`validate`](Downgrade::validate).
    pub fn enable(version: impl Into<String>) -> Self {
        Downgrade::new(DowngradeAction::Enable, version.into())
    }

    /// Cancels the running downgrade. When there is none, some servers answer with
    /// [`FailedPrecondition`](crate::ErrorKind::FailedPrecondition), and others with success.
    pub fn cancel() -> Self {
        Downgrade::new(DowngradeAction::Cancel, String::new())
    }

    fn new(action: DowngradeAction, version: String) -> Self {
        Downgrade { action, version }
    }

    fn message(&self) -> DowngradeRequest {
        DowngradeRequest {
            action: self.action.into(),
            version: self.version.clone(),
        }
    }
}

impl Rpc for Downgrade {
    type Response = DowngradeResponse;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        match self.action {
            DowngradeAction::Validate => {
                Operation::about("validate downgrade", format_args!("to {}", self.version))
            }
            DowngradeAction::Enable => {
                Operation::about("enable downgrade", format_args!("to {}", self.version))
            }
            DowngradeAction::Cancel => Operation::new("cancel downgrade"),
        }
    }

    fn check(&self) -> Result<()> {
        if self.version.is_empty() && self.action != DowngradeAction::Cancel {
            return Err(Error::invalid(
                "the downgrade has no version: set one, such as 3.6.0",
            ));
        }
        Ok(())
    }

    fn writes(&self) -> bool {
        self.action != DowngradeAction::Validate
    }

    fn encoded_len(&self) -> usize {
        self.message().encoded_len()
    }

    fn execute(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> impl Future<Output = Result<DowngradeResponse>> + Send + 'static {
        let call = match self.writes() {
            true => Call::write(timeout),
            false => Call::read(timeout),
        };
        let request = Framed::new(&self.message());
        transport.unary(call, move || self.operation(), request)
    }
}

/// The response to a [`Downgrade`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct DowngradeResponse {
    header: ResponseHeader,
    version: String,
}

impl DowngradeResponse {
    /// The header of the response.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The present version of the cluster, such as `3.7`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl From<Pb> for DowngradeResponse {
    fn from(pb: Pb) -> Self {
        DowngradeResponse {
            header: header(pb.header),
            version: pb.version,
        }
    }
}

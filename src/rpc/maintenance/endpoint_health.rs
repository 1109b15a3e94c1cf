//! The health of an endpoint, by the rules of `etcdctl endpoint health`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::alarm::{Alarm, AlarmList, AlarmResponse};
use super::endpoint_status::{EndpointStatus, StatusResponse};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::{ConnectionRole, RpcError, Transport, Urgency};
use crate::rpc::kv::Get;
use crate::rpc::namespace::Namespace;
use crate::rpc::request;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;

/// The key that etcdctl reads. It need not exist.
const KEY: &str = "health";

/// The health of an endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointHealth {
    /// The endpoint.
    pub endpoint: String,
    /// Whether a connection could be made.
    pub is_reachable: bool,
    /// The time until the linearizable read was answered or failed, including the connection.
    pub took: Duration,
    /// The status of the member. `None` when it is not reachable, or refuses the status to this user.
    pub status: Option<StatusResponse>,
    /// The alarms of all members of the cluster.
    pub alarms: Vec<Alarm>,
    /// The reason why the endpoint is not healthy, unless because of an alarm.
    pub error: Option<Error>,
}

impl EndpointHealth {
    /// Whether the endpoint serves a linearizable read, and the cluster has no alarm. A member that
    /// refuses the read because the user has no permission for the key is healthy. A learner is not,
    /// because it serves no linearizable reads.
    pub fn is_healthy(&self) -> bool {
        self.error.is_none() && self.alarms.is_empty()
    }

    /// Whether the member considers itself the leader.
    pub fn is_leader(&self) -> bool {
        self.status.as_ref().is_some_and(StatusResponse::is_leader)
    }

    /// Whether the member is a learner.
    pub fn is_learner(&self) -> bool {
        self.status.as_ref().is_some_and(StatusResponse::is_learner)
    }
}

/// The health of an endpoint to which no connection could be made.
pub(crate) fn unreachable(endpoint: String, took: Duration, error: Error) -> EndpointHealth {
    EndpointHealth {
        endpoint,
        is_reachable: false,
        took,
        status: None,
        alarms: Vec::new(),
        error: Some(error),
    }
}

/// Checks the only endpoint of a transport. It does not fail: failures are part of the result.
#[derive(Debug)]
pub(crate) struct HealthCheck;

impl Rpc for HealthCheck {
    type Response = EndpointHealth;

    fn within(self, _: &Namespace) -> Result<Namespaced<Self>> {
        Ok(Namespaced::keyless(self))
    }

    fn operation(&self) -> Operation {
        Operation::new("health")
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        0
    }

    async fn execute(self, transport: Arc<Transport>, timeout: Duration) -> Result<EndpointHealth> {
        let begun = Instant::now();
        let endpoint = transport.name();
        // One attempt only: the result is about the present.
        let connecting = transport.connection(ConnectionRole::Calls, Urgency::Call);
        let failure = match timeout_at((begun + timeout).into(), connecting).await {
            Ok(Ok(_)) => None,
            Ok(Err(RpcError::Connection(error))) => {
                Some(Error::new(ErrorKind::Unavailable, error.text))
            }
            Ok(Err(RpcError::Status(refused))) => Some(Error::new(refused.kind, refused.text)),
            Err(_) => Some(Error::new(
                ErrorKind::Timeout,
                format!("no answer in {timeout:?}"),
            )),
        };
        if let Some(error) = failure {
            let error = error
                .operation(self.operation())
                .at(Some(Arc::clone(&endpoint)));
            return Ok(unreachable(endpoint.to_string(), begun.elapsed(), error));
        }
        let left = || timeout.saturating_sub(begun.elapsed());
        let ask = || Arc::clone(&transport);
        // The alarms are read at the same time: either read may need the whole timeout.
        let alarms = tokio::spawn(request::counted(AlarmList::new(), ask(), left()));
        let status = request::counted(EndpointStatus::new(), ask(), left())
            .await
            .ok();
        let read = if status.as_ref().is_some_and(StatusResponse::is_learner) {
            // The read would be retried until the timeout.
            let reason = "a learner serves no linearizable reads";
            let error = Error::new(ErrorKind::Unavailable, reason).operation(self.operation());
            Err(error.at(Some(Arc::clone(&endpoint))))
        } else {
            request::counted(Get::key(KEY), ask(), left())
                .await
                .map(drop)
        };
        let took = begun.elapsed();
        let (alarms, refused) = of_alarms(alarms.await);
        let error = read.err().filter(|e| !is_alive(e)).or(refused);
        Ok(EndpointHealth {
            endpoint: endpoint.to_string(),
            is_reachable: true,
            took,
            status,
            alarms,
            error,
        })
    }
}

/// Whether the error is an answer of a healthy member.
fn is_alive(error: &Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied
}

/// The alarms, or the error of reading them.
fn of_alarms(
    listed: std::result::Result<Result<AlarmResponse>, tokio::task::JoinError>,
) -> (Vec<Alarm>, Option<Error>) {
    match listed {
        Ok(Ok(response)) => (response.alarms().to_vec(), None),
        Ok(Err(error)) if is_alive(&error) => (Vec::new(), None),
        Ok(Err(error)) => (Vec::new(), Some(error)),
        Err(_) => (Vec::new(), Some(Error::abandoned())),
    }
}

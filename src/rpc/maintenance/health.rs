//! Whether an endpoint is healthy, as `etcdctl endpoint health` decides it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::alarm::{Alarm, AlarmList, AlarmResponse};
use super::status::{EndpointStatus, StatusResponse};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::grpc::{ConnectionRole, Demand, RpcError, Transport};
use crate::rpc::kv::Get;
use crate::rpc::namespace::Namespace;
use crate::rpc::request;
use crate::rpc::request::Namespaced;
use crate::rpc::request::sealed::Rpc;

/// The key that etcdctl reads; it need not exist.
const KEY: &str = "health";

/// How an endpoint is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointHealth {
    /// The endpoint.
    pub endpoint: String,
    /// Whether anything answered there.
    pub is_reachable: bool,
    /// How long it took until the linearizable read was answered or had failed, connecting included.
    pub took: Duration,
    /// What the member says about itself; `None` when it is not reachable, or does not tell this user.
    pub status: Option<StatusResponse>,
    /// The alarms of the cluster, of any member.
    pub alarms: Vec<Alarm>,
    /// Why it is not healthy, unless it is an alarm.
    pub error: Option<Error>,
}

impl EndpointHealth {
    /// Whether it serves a linearizable read, and there is no alarm in the cluster. A member that
    /// refuses the read because the user may not read that key is healthy; a learner is not: it serves
    /// no such reads.
    pub fn is_healthy(&self) -> bool {
        self.error.is_none() && self.alarms.is_empty()
    }

    /// Whether the member takes itself for the leader.
    pub fn is_leader(&self) -> bool {
        self.status.as_ref().is_some_and(StatusResponse::is_leader)
    }

    /// Whether the member is a learner.
    pub fn is_learner(&self) -> bool {
        self.status.as_ref().is_some_and(StatusResponse::is_learner)
    }
}

/// An endpoint that could not even be asked.
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

/// Finds out how the only endpoint of a transport is. It never fails: what fails is the answer.
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

    async fn exchange(
        self,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> Result<EndpointHealth> {
        let begun = Instant::now();
        let endpoint = transport.name();
        // One attempt: whether somebody is there now is the question.
        let connecting = transport.connection(ConnectionRole::Calls, Demand::Call);
        let failure = match timeout_at((begun + timeout).into(), connecting).await {
            Ok(Ok(_)) => None,
            Ok(Err(RpcError::ConnectError(fault))) => {
                Some(Error::new(ErrorKind::Unavailable, fault.text))
            }
            Ok(Err(RpcError::Answer(refused))) => Some(Error::new(refused.kind, refused.text)),
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
        // The alarms in the meantime: one of the two may have to wait for the deadline.
        let alarms = tokio::spawn(request::counted(AlarmList::new(), ask(), left()));
        let status = request::counted(EndpointStatus::new(), ask(), left())
            .await
            .ok();
        let read = if status.as_ref().is_some_and(StatusResponse::is_learner) {
            // It would be asked again and again, until somebody promotes it.
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

/// Who is refused was answered.
fn is_alive(error: &Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied
}

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

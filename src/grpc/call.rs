//! A unary call: repeats attempts until one succeeds, the deadline passes, or repeating is unsafe.
//! `attempts` decides the steps; this file performs them.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{error::Elapsed, sleep_until, timeout_at};

use super::attempt_failure::AttemptFailure;
use super::attempts::{Attempts, Next, Outcome};
use super::connect::connection::Connection;
use super::connect::connection_role::ConnectionRole;
use super::connect::urgency::Urgency;
use super::etcd_rs_proto::Unary;
use super::retry::RequestClass;
use super::rpc_error::RpcError;
use super::transport::Transport;
use super::unary::Framed;
use crate::error::{Operation, Result};
use crate::util::jitter;

/// How a call is sent: its class, its timeout and its connection role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    class: RequestClass,
    timeout: Duration,
    /// `None`: each attempt dials its own connection.
    role: Option<ConnectionRole>,
}

impl Call {
    /// A call that changes nothing, or can be repeated without a further effect.
    pub(crate) fn read(timeout: Duration) -> Self {
        Call {
            class: RequestClass::Repeatable,
            timeout,
            role: Some(ConnectionRole::Calls),
        }
    }

    /// A call that is repeated only when it provably was not executed.
    pub(crate) fn write(timeout: Duration) -> Self {
        Call {
            class: RequestClass::Write,
            ..Call::read(timeout)
        }
    }

    /// A write that a follower forwards to the leader.
    pub(crate) fn forwarded(timeout: Duration) -> Self {
        Call {
            class: RequestClass::Forwarded,
            ..Call::read(timeout)
        }
    }

    /// Sends the call over the connections of another role.
    pub(crate) fn over(self, role: ConnectionRole) -> Self {
        Call {
            role: Some(role),
            ..self
        }
    }

    /// Sends the call over its own connection, for a stream that may be read slowly.
    pub(crate) fn dedicated_connection(self) -> Self {
        Call { role: None, ..self }
    }
}

impl Transport {
    /// Sends a request until it is answered. `operation` is evaluated only when the call fails.
    pub(crate) fn unary<M, R>(
        self: Arc<Self>,
        call: Call,
        operation: impl FnOnce() -> Operation,
        request: Framed<M>,
    ) -> impl Future<Output = Result<R>>
    where
        M: Unary,
        R: From<M::Reply>,
    {
        let attempt = move |connection: Connection| connection.unary(request.clone());
        let answer = self.repeat(call, operation, attempt);
        async move { answer.await.map(R::from) }
    }

    /// Repeats `attempt` as [`unary`](Self::unary) does, for calls that do more than send one
    /// message. A call that opens a stream ends with the first message of the stream.
    #[allow(
        clippy::manual_async_fn,
        reason = "an `async fn` holds each argument twice, and every call is moved on its way"
    )]
    pub(crate) fn repeat<T, F, Fut>(
        self: Arc<Self>,
        call: Call,
        operation: impl FnOnce() -> Operation,
        attempt: F,
    ) -> impl Future<Output = Result<T>>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<T, RpcError>>,
    {
        async move {
            let mut attempts = Attempts::new(call.class, call.timeout, Instant::now());
            let deadline = attempts.deadline();
            let failure = loop {
                let mut generation = 0;
                let outcome = match self.connecting(call.role, deadline).await {
                    Err(_) => Outcome::DeadlinePassed,
                    Ok(Err(error)) => Outcome::NotConnected(error),
                    Ok(Ok(connection)) => match self.limit(&call, &attempts, &connection) {
                        None => Outcome::DeadlinePassed,
                        Some(limit) => {
                            generation = self.generation();
                            let trying = attempt(connection.clone());
                            match timeout_at(limit.into(), trying).await {
                                Ok(Ok(answer)) => return Ok(answer),
                                failed => self.failed(&call, &connection, failed),
                            }
                        }
                    },
                };
                let mut next = attempts.on(outcome, Instant::now(), jitter::fraction());
                if let Next::RenewToken(rejected) = &next {
                    let renewing = self.renew(generation, rejected);
                    let outcome = match timeout_at(deadline.into(), renewing).await {
                        Ok(Ok(())) => Outcome::TokenRenewed,
                        Ok(Err(error)) => Outcome::TokenNotRenewed(error),
                        Err(_) => Outcome::DeadlinePassed,
                    };
                    next = attempts.on(outcome, Instant::now(), jitter::fraction());
                }
                match next {
                    Next::Fail(failure) => break failure,
                    Next::RenewToken(_) => {}
                    Next::Retry { at } => {
                        if let Some((endpoint, failure)) = attempts.last() {
                            self.telemetry
                                .retrying(attempts.failed(), endpoint, failure);
                        }
                        if let Some(at) = at {
                            sleep_until(at.into()).await;
                        }
                    }
                }
            };
            let obstacle = || {
                let shortage = self.stream_shortage(call.role);
                shortage.or_else(|| self.known_failures())
            };
            let error = attempts.into_error(failure, Instant::now(), self.name(), obstacle);
            Err(error.operation(operation()))
        }
    }

    /// The time limit of an attempt on this connection; `None` when the call is too late.
    fn limit(&self, call: &Call, attempts: &Attempts, connection: &Connection) -> Option<Instant> {
        let has_other_member =
            call.class == RequestClass::Repeatable && self.has_others(connection.index);
        attempts.attempt_deadline(has_other_member, Instant::now())
    }

    /// Records what a failed attempt shows about the member.
    #[cold]
    fn failed<T>(
        &self,
        call: &Call,
        connection: &Connection,
        result: Result<Result<T, RpcError>, Elapsed>,
    ) -> Outcome {
        let failure = match result {
            Ok(Err(error)) => AttemptFailure::from(error),
            Ok(Ok(_)) | Err(_) => AttemptFailure::Silence,
        };
        let condition = failure.member_condition();
        match call.role {
            Some(role) => self.report(role, connection, condition),
            None => drop(self.penalise(connection, condition)),
        }
        Outcome::Failed {
            endpoint: Arc::clone(&connection.endpoint.text),
            failure,
            is_open: connection.is_open(),
        }
    }

    /// Returns the connection for an attempt, usually without a wait.
    fn connecting(
        self: &Arc<Self>,
        role: Option<ConnectionRole>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Result<Connection, RpcError>, Elapsed>> {
        let ready_connection = role.and_then(|role| self.ready_connection(role));
        async move {
            if let Some(connection) = ready_connection {
                return Ok(Ok(connection));
            }
            // Boxed because it is much larger than the rest of the call's future.
            let connecting = Box::pin(async {
                match role {
                    Some(role) => self.connection(role, Urgency::Call).await,
                    None => self.own_connection(Urgency::Call).await,
                }
            });
            timeout_at(deadline.into(), connecting).await
        }
    }
}

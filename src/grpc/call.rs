//! A unary call: repeats attempts until one succeeds, the deadline passes, or repeating is unsafe.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{error::Elapsed, sleep_until, timeout_at};

use super::attempts::Attempts;
use super::connect::connection::Connection;
use super::connect::connection_role::ConnectionRole;
use super::connect::urgency::Urgency;
use super::etcd_rs_proto::Unary;
use super::retry::{AttemptFailure, RequestClass, judge};
use super::rpc_error::RpcError;
use super::transport::Transport;
use super::unary::Framed;
use crate::error::{Error, ErrorKind, Operation, Result, RetryHint};
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The wait between attempts on a working connection. A broken connection is replaced without a
/// wait.
const BETWEEN_ATTEMPTS: Backoff =
    Backoff::new(Duration::from_millis(25), Duration::from_millis(500));

/// The shortest time for one attempt of a read that could also go to another member.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);

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
        let attempt = move |connection: Connection| connection.ask(request.clone());
        let answer = self.calling(call, operation, attempt);
        async move { answer.await.map(R::from) }
    }

    /// Repeats `attempt` as [`unary`](Self::unary) does, for calls that do more than send one
    /// message. A call that opens a stream ends with the first message of the stream.
    #[allow(
        clippy::manual_async_fn,
        reason = "an `async fn` holds each argument twice, and every call is moved on its way"
    )]
    pub(crate) fn calling<T, F, Fut>(
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
            let role = call.role;
            let begun = Instant::now();
            let deadline = begun + call.timeout;
            let mut attempts = Attempts {
                count: 0,
                last: None,
            };
            let mut backoff = BETWEEN_ATTEMPTS;
            let error = loop {
                // A call past its deadline sends nothing.
                if Instant::now() >= deadline {
                    break self.too_late(&call, attempts, begun);
                }
                let connecting = self.connecting(role, deadline);
                let connection = match connecting.await {
                    Ok(Ok(connection)) => connection,
                    Ok(Err(RpcError::ConnectError(fault))) => {
                        let failure = AttemptFailure::NoConnection(fault);
                        let decision = judge(&failure, call.class);
                        attempts.note(None, failure);
                        if !decision.retry {
                            break attempts.give_up(decision, begun).at(Some(self.name()));
                        }
                        attempts.again(&self.observer);
                        continue;
                    }
                    Ok(Err(RpcError::Answer(answer))) => break attempts.refused(answer, begun),
                    Err(_) => break self.too_late(&call, attempts, begun),
                };
                if Instant::now() >= deadline {
                    break self.too_late(&call, attempts, begun);
                }
                let limit = self.attempt_deadline(&call, &connection, deadline);
                let generation = self.generation();
                let trying = attempt(connection.clone());
                let failure = match timeout_at(limit.into(), trying).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(RpcError::ConnectError(fault))) => AttemptFailure::Broken(fault),
                    Ok(Err(RpcError::Answer(answer))) => AttemptFailure::Answer(answer),
                    Err(_) => AttemptFailure::Silence,
                };
                let decision = judge(&failure, call.class);
                match role {
                    Some(role) => self.report(role, &connection, decision.member),
                    None => drop(self.penalise(&connection, decision.member)),
                }
                // A stream that fails on a working connection could fail thousands of times a
                // second.
                let spaced = match failure {
                    AttemptFailure::Answer(_) => true,
                    AttemptFailure::Broken(_) => connection.is_open(),
                    AttemptFailure::NoConnection(_) | AttemptFailure::Silence => false,
                };
                let token = match &failure {
                    AttemptFailure::Answer(answer) if decision.token => Some(answer.clone()),
                    _ => None,
                };
                attempts.note(Some(&connection), failure);
                if !decision.retry {
                    break attempts.give_up(decision, begun);
                }
                if let Some(refused) = token {
                    let renewing = self.renew(generation, &refused);
                    match timeout_at(deadline.into(), renewing).await {
                        Ok(Ok(())) => {}
                        Ok(Err(RpcError::ConnectError(fault))) => {
                            attempts.note(None, AttemptFailure::NoConnection(fault));
                        }
                        Ok(Err(RpcError::Answer(answer))) => break attempts.refused(answer, begun),
                        Err(_) => break self.too_late(&call, attempts, begun),
                    }
                }
                let pause = if spaced {
                    backoff.next(jitter::fraction())
                } else {
                    Duration::ZERO
                };
                let next = Instant::now() + pause;
                if next >= deadline {
                    break self.too_late(&call, attempts, begun);
                }
                attempts.again(&self.observer);
                if !pause.is_zero() {
                    sleep_until(next.into()).await;
                }
            };
            Err(error.operation(operation()))
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

    /// The deadline of one attempt. A read that could go to another member gets a third of the
    /// timeout; every other attempt gets all of it.
    fn attempt_deadline(&self, call: &Call, connection: &Connection, deadline: Instant) -> Instant {
        if call.class != RequestClass::Repeatable || !self.has_others(connection.index) {
            return deadline;
        }
        (Instant::now() + (call.timeout / 3).max(SHORTEST_ATTEMPT)).min(deadline)
    }

    #[cold]
    fn too_late(&self, call: &Call, attempts: Attempts, begun: Instant) -> Error {
        let elapsed = begun.elapsed();
        let endpoint = attempts.endpoint().unwrap_or_else(|| self.name());
        let last = attempts.last.map(|(_, failure)| failure);
        let kind = match &last {
            // The user name and the password may be right: no new token was fetched in time, and
            // the next call may get one.
            Some(AttemptFailure::Answer(answer))
                if answer.kind == ErrorKind::Unauthenticated
                    && matches!(answer.retry_hint, RetryHint::NewToken(_)) =>
            {
                ErrorKind::Timeout
            }
            Some(AttemptFailure::Answer(answer)) => answer.kind,
            Some(AttemptFailure::NoConnection(fault) | AttemptFailure::Broken(fault)) => fault.kind,
            Some(AttemptFailure::Silence) | None => ErrorKind::Timeout,
        };
        let error = Error::new(kind, format!("no answer in {:?}", call.timeout))
            .at(Some(endpoint))
            .tried(attempts.count.max(1), elapsed);
        match last {
            Some(failure) => error.last(failure.to_string()),
            None => match self
                .stream_shortage(call.role)
                .or_else(|| self.known_failures())
            {
                Some(trouble) => error.last(trouble),
                None => error,
            },
        }
    }
}

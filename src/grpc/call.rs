//! A unary call: attempts until one succeeds, the deadline passes, or repeating would be unsafe.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{error::Elapsed, sleep_until, timeout_at};

use super::connect::connect_error::Sent;
use super::retry::{Class, Failure, Verdict, judge};
use super::unary::Framed;
use super::{ConnectError, Connection, ConnectionRole, Demand, Transport};
use crate::error::{Error, ErrorKind, Executed, Operation, Remedy, Result, ServerError};
use crate::grpc::etcd_rs_proto::Unary;
use crate::observe::Observer;
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The wait between attempts over one connection; a broken one is replaced at once.
const BETWEEN_ATTEMPTS: Backoff =
    Backoff::new(Duration::from_millis(25), Duration::from_millis(500));

/// The least time that one attempt of a read has, when it could go elsewhere instead.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);

/// One call: what it may do, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    class: Class,
    timeout: Duration,
    /// Without one, each attempt has a connection of its own.
    role: Option<ConnectionRole>,
}

impl Call {
    /// One that changes nothing, or the same thing again.
    pub(crate) fn read(timeout: Duration) -> Self {
        Call {
            class: Class::Repeatable,
            timeout,
            role: Some(ConnectionRole::Calls),
        }
    }

    /// One that is repeated only when it provably was not executed.
    pub(crate) fn write(timeout: Duration) -> Self {
        Call {
            class: Class::Write,
            ..Call::read(timeout)
        }
    }

    /// A write that a follower passes on to the leader by itself.
    pub(crate) fn forwarded(timeout: Duration) -> Self {
        Call {
            class: Class::Forwarded,
            ..Call::read(timeout)
        }
    }

    /// Over the connections of another role than that of calls.
    pub(crate) fn over(self, role: ConnectionRole) -> Self {
        Call {
            role: Some(role),
            ..self
        }
    }

    /// Over a connection of its own: for a stream that is read at its reader's pace.
    pub(crate) fn alone(self) -> Self {
        Call { role: None, ..self }
    }
}

/// What went wrong below or behind gRPC.
#[derive(Clone, Debug)]
pub(crate) enum RpcError {
    ConnectError(ConnectError),
    Answer(ServerError),
}

impl RpcError {
    /// Whether the request may have been executed all the same.
    pub(crate) fn maybe_executed(&self) -> bool {
        match self {
            RpcError::ConnectError(fault) => fault.sent == Sent::Maybe,
            RpcError::Answer(answer) => answer.executed == Executed::Unknown,
        }
    }
}

impl Transport {
    /// Sends a request to its method until it is answered. `operation` is asked for its name only when
    /// the call fails.
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

    /// Does the same by `attempt`, for what is more than sending a message. What opens a stream is over
    /// with its first message: what comes later, and when, is the reader's business.
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
            let mut tries = Tries {
                count: 0,
                last: None,
            };
            let mut backoff = BETWEEN_ATTEMPTS;
            let error = loop {
                // What has passed sends nothing.
                if Instant::now() >= deadline {
                    break self.too_late(&call, tries, begun);
                }
                let connecting = self.connecting(role, deadline);
                let connection = match connecting.await {
                    Ok(Ok(connection)) => connection,
                    Ok(Err(RpcError::ConnectError(fault))) => {
                        let failure = Failure::NoConnection(fault);
                        let verdict = judge(&failure, call.class);
                        tries.note(None, failure);
                        if !verdict.retry {
                            break tries.give_up(verdict, begun).at(Some(self.name()));
                        }
                        tries.again(&self.observer);
                        continue;
                    }
                    Ok(Err(RpcError::Answer(answer))) => break tries.refused(answer, begun),
                    Err(_) => break self.too_late(&call, tries, begun),
                };
                if Instant::now() >= deadline {
                    break self.too_late(&call, tries, begun);
                }
                let limit = self.attempt_deadline(&call, &connection, deadline);
                let generation = self.generation();
                let trying = attempt(connection.clone());
                let failure = match timeout_at(limit.into(), trying).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(RpcError::ConnectError(fault))) => Failure::Broken(fault),
                    Ok(Err(RpcError::Answer(answer))) => Failure::Answer(answer),
                    Err(_) => Failure::Silence,
                };
                let verdict = judge(&failure, call.class);
                match role {
                    Some(role) => self.report(role, &connection, verdict.member),
                    None => drop(self.penalise(&connection, verdict.member)),
                }
                // A stream that breaks on a connection that does not could break thousands a second.
                let spaced = match failure {
                    Failure::Answer(_) => true,
                    Failure::Broken(_) => connection.is_open(),
                    Failure::NoConnection(_) | Failure::Silence => false,
                };
                let token = match &failure {
                    Failure::Answer(answer) if verdict.token => Some(answer.clone()),
                    _ => None,
                };
                tries.note(Some(&connection), failure);
                if !verdict.retry {
                    break tries.give_up(verdict, begun);
                }
                if let Some(refused) = token {
                    let renewing = self.renew(generation, &refused);
                    match timeout_at(deadline.into(), renewing).await {
                        Ok(Ok(())) => {}
                        Ok(Err(RpcError::ConnectError(fault))) => {
                            tries.note(None, Failure::NoConnection(fault));
                        }
                        Ok(Err(RpcError::Answer(answer))) => break tries.refused(answer, begun),
                        Err(_) => break self.too_late(&call, tries, begun),
                    }
                }
                let pause = if spaced {
                    backoff.next(jitter::fraction())
                } else {
                    Duration::ZERO
                };
                let next = Instant::now() + pause;
                if next >= deadline {
                    break self.too_late(&call, tries, begun);
                }
                tries.again(&self.observer);
                if !pause.is_zero() {
                    sleep_until(next.into()).await;
                }
            };
            Err(error.operation(operation()))
        }
    }

    /// The connection for an attempt; as a rule it is at hand.
    fn connecting(
        self: &Arc<Self>,
        role: Option<ConnectionRole>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Result<Connection, RpcError>, Elapsed>> {
        let at_hand = role.and_then(|role| self.at_hand(role));
        async move {
            if let Some(connection) = at_hand {
                return Ok(Ok(connection));
            }
            // In a box: it is much larger than all the rest of a call.
            let connecting = Box::pin(async {
                match role {
                    Some(role) => self.connection(role, Demand::Call).await,
                    None => self.own_connection(Demand::Call).await,
                }
            });
            timeout_at(deadline.into(), connecting).await
        }
    }

    /// A read that could go elsewhere gives one member a third of the time; anything else has all
    /// of it.
    fn attempt_deadline(&self, call: &Call, connection: &Connection, deadline: Instant) -> Instant {
        if call.class != Class::Repeatable || !self.has_others(connection.index) {
            return deadline;
        }
        (Instant::now() + (call.timeout / 3).max(SHORTEST_ATTEMPT)).min(deadline)
    }

    #[cold]
    fn too_late(&self, call: &Call, tries: Tries, begun: Instant) -> Error {
        let elapsed = begun.elapsed();
        let endpoint = tries.endpoint().unwrap_or_else(|| self.name());
        let last = tries.last.map(|(_, failure)| failure);
        let kind = match &last {
            // Nobody said that name and password are wrong: another token was not there in time,
            // and may be for the next call.
            Some(Failure::Answer(answer))
                if answer.kind == ErrorKind::Unauthenticated
                    && matches!(answer.remedy, Remedy::Token(_)) =>
            {
                ErrorKind::Timeout
            }
            Some(Failure::Answer(answer)) => answer.kind,
            Some(Failure::NoConnection(fault) | Failure::Broken(fault)) => fault.kind,
            Some(Failure::Silence) | None => ErrorKind::Timeout,
        };
        let error = Error::new(kind, format!("no answer in {:?}", call.timeout))
            .at(Some(endpoint))
            .tried(tries.count.max(1), elapsed);
        match last {
            Some(failure) => error.last(failure.to_string()),
            None => match self.stream_shortage(call.role).or_else(|| self.trouble()) {
                Some(trouble) => error.last(trouble),
                None => error,
            },
        }
    }
}

/// What was tried so far.
struct Tries {
    count: u32,
    last: Option<(Option<Arc<str>>, Failure)>,
}

impl Tries {
    fn note(&mut self, connection: Option<&Connection>, failure: Failure) {
        self.count += 1;
        self.last = Some((connection.map(|c| Arc::clone(&c.endpoint.text)), failure));
    }

    /// Another attempt follows.
    fn again(&self, observer: &Observer) {
        if let Some((endpoint, failure)) = &self.last {
            observer.retrying(self.count, endpoint.as_deref(), failure);
        }
    }

    fn endpoint(&self) -> Option<Arc<str>> {
        self.last
            .as_ref()
            .and_then(|(endpoint, _)| endpoint.clone())
    }

    /// The error of a call for which there is no token.
    #[cold]
    fn refused(self, answer: ServerError, begun: Instant) -> Error {
        Error::new(answer.kind, answer.text)
            .at(self.endpoint())
            .tried(self.count.max(1), begun.elapsed())
    }

    /// The error of a call that must not, or need not, be repeated.
    #[cold]
    fn give_up(self, verdict: Verdict, begun: Instant) -> Error {
        let elapsed = begun.elapsed();
        let endpoint = self.endpoint();
        let error = match self.last {
            Some((_, Failure::Answer(answer))) => Error::new(answer.kind, answer.text),
            Some((_, Failure::Broken(fault) | Failure::NoConnection(fault))) => {
                Error::new(fault.kind, fault.text)
            }
            Some((_, Failure::Silence)) | None => Error::new(
                ErrorKind::Timeout,
                format!("no answer in {}", short(elapsed)),
            ),
        };
        error
            .at(endpoint)
            .tried(self.count, elapsed)
            .unknown_outcome(verdict.maybe_executed)
    }
}

/// A duration to the millisecond: nobody reads the rest.
fn short(elapsed: Duration) -> String {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    format!("{:?}", Duration::from_millis(millis))
}

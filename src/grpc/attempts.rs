//! Decides after each failed attempt of a call what is next. Pure: time and randomness are arguments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt_failure::AttemptFailure;
use super::retry::{RequestClass, decide};
use super::rpc_error::RpcError;
use crate::error::{Error, ErrorKind, ServerError};
use crate::util::backoff::Backoff;

/// The wait between attempts on a working connection. A broken connection is replaced without a
/// wait.
const BETWEEN_ATTEMPTS: Backoff =
    Backoff::new(Duration::from_millis(25), Duration::from_millis(500));

/// The shortest time for one attempt of a read that could also go to another member.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);

/// The result of the last step of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    /// No connection could be made, or there is no token for it.
    NotConnected(RpcError),
    /// A request was sent to this endpoint, and failed.
    Failed {
        endpoint: Arc<str>,
        failure: AttemptFailure,
        /// Whether the connection still works.
        is_open: bool,
    },
    /// There is another token.
    TokenRenewed,
    /// There is no other token.
    TokenNotRenewed(RpcError),
    /// The deadline passed before the step ended.
    DeadlinePassed,
}

/// The next step of a call.
#[derive(Debug)]
pub(super) enum Next {
    /// Get another token, until the deadline. The last one was rejected with this answer.
    RenewToken(ServerError),
    /// Make another attempt at this time; `None` means now.
    Retry { at: Option<Instant> },
    /// The call failed.
    Fail(CallFailure),
}

/// Why a call ends without a reply.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// The last failure is not followed by another attempt.
    Final { maybe_executed: bool },
    /// The server accepts no token of the client.
    TokenRefused(ServerError),
    /// The deadline passed.
    TooLate,
}

/// The attempts of one call.
#[derive(Debug)]
pub(super) struct Attempts {
    class: RequestClass,
    timeout: Duration,
    begun: Instant,
    deadline: Instant,
    backoff: Backoff,
    /// Whether the next attempt is made after a wait.
    is_spaced: bool,
    /// How many attempts failed.
    failed: u32,
    /// The endpoint of the last failure, if there was a connection, and the failure.
    last: Option<(Option<Arc<str>>, AttemptFailure)>,
}

impl Attempts {
    pub(super) fn new(class: RequestClass, timeout: Duration, now: Instant) -> Self {
        Attempts {
            class,
            timeout,
            begun: now,
            deadline: now + timeout,
            backoff: BETWEEN_ATTEMPTS,
            is_spaced: false,
            failed: 0,
            last: None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How many attempts failed.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// The endpoint of the last failure, if there was a connection, and the failure.
    pub(super) fn last(&self) -> Option<(Option<&str>, &AttemptFailure)> {
        let (endpoint, failure) = self.last.as_ref()?;
        Some((endpoint.as_deref(), failure))
    }

    /// The time limit of the next attempt; `None` when the deadline has passed, and nothing may be
    /// sent. A read that could go to another member gets a third of the timeout; every other
    /// attempt gets all of it.
    pub(super) fn attempt_deadline(&self, has_other_member: bool, now: Instant) -> Option<Instant> {
        if now >= self.deadline {
            return None;
        }
        if self.class != RequestClass::Repeatable || !has_other_member {
            return Some(self.deadline);
        }
        let limit = (self.timeout / 3).max(SHORTEST_ATTEMPT);
        Some((now + limit).min(self.deadline))
    }

    /// Decides the next step; `random` is in 0..1.
    pub(super) fn on(&mut self, outcome: Outcome, now: Instant, random: f64) -> Next {
        match outcome {
            Outcome::NotConnected(error) => match error {
                RpcError::Status(answer) => Next::Fail(CallFailure::TokenRefused(answer)),
                // The pool spaces the attempts to connect.
                RpcError::Connection(error) => {
                    self.is_spaced = false;
                    self.on_failure(None, AttemptFailure::NoConnection(error), now, random)
                }
            },
            Outcome::Failed {
                endpoint,
                failure,
                is_open,
            } => {
                // A request that fails on a working connection could fail thousands of times a
                // second.
                self.is_spaced = match failure {
                    AttemptFailure::Status(_) => true,
                    AttemptFailure::Broken(_) => is_open,
                    AttemptFailure::NoConnection(_) | AttemptFailure::Silence => false,
                };
                self.on_failure(Some(endpoint), failure, now, random)
            }
            Outcome::TokenRenewed => self.retry(now, random),
            Outcome::TokenNotRenewed(RpcError::Status(answer)) => {
                Next::Fail(CallFailure::TokenRefused(answer))
            }
            Outcome::TokenNotRenewed(RpcError::Connection(error)) => {
                self.note(None, AttemptFailure::NoConnection(error));
                self.retry(now, random)
            }
            Outcome::DeadlinePassed => Next::Fail(CallFailure::TooLate),
        }
    }

    fn on_failure(
        &mut self,
        endpoint: Option<Arc<str>>,
        failure: AttemptFailure,
        now: Instant,
        random: f64,
    ) -> Next {
        let decision = decide(&failure, self.class);
        let rejection = failure.token_rejection().cloned();
        self.note(endpoint, failure);
        match rejection {
            _ if !decision.retry => Next::Fail(CallFailure::Final {
                maybe_executed: decision.maybe_executed,
            }),
            Some(answer) => Next::RenewToken(answer),
            None => self.retry(now, random),
        }
    }

    fn note(&mut self, endpoint: Option<Arc<str>>, failure: AttemptFailure) {
        self.failed += 1;
        self.last = Some((endpoint, failure));
    }

    fn retry(&mut self, now: Instant, random: f64) -> Next {
        let at = self.is_spaced.then(|| now + self.backoff.next(random));
        match at.unwrap_or(now) < self.deadline {
            true => Next::Retry {
                at: at.filter(|at| *at > now),
            },
            false => Next::Fail(CallFailure::TooLate),
        }
    }

    /// The error of the call. `all` is the text of all endpoints. `obstacle` describes why
    /// no request can be sent, for a call without a failure.
    #[cold]
    pub(super) fn into_error(
        self,
        failure: CallFailure,
        now: Instant,
        all: Arc<str>,
        obstacle: impl FnOnce() -> Option<String>,
    ) -> Error {
        let elapsed = now.saturating_duration_since(self.begun);
        let timeout = self.timeout;
        let (endpoint, last) = self.last.unzip();
        let endpoint = endpoint.flatten();
        match failure {
            CallFailure::TokenRefused(answer) => Error::new(answer.kind, answer.text)
                .at(endpoint)
                .tried(self.failed.max(1), elapsed),
            CallFailure::Final { maybe_executed } => final_error(last, elapsed)
                .at(Some(endpoint.unwrap_or(all)))
                .tried(self.failed, elapsed)
                .unknown_outcome(maybe_executed),
            CallFailure::TooLate => {
                let kind = last.as_ref().map_or(ErrorKind::Timeout, kind_of_late);
                let error = Error::new(kind, format!("no answer in {timeout:?}"))
                    .at(Some(endpoint.unwrap_or(all)))
                    .tried(self.failed.max(1), elapsed);
                match last.map(|last| last.to_string()).or_else(obstacle) {
                    Some(reason) => error.last(reason),
                    None => error,
                }
            }
        }
    }
}

/// The error of a call that is not repeated after its last failure.
fn final_error(last: Option<AttemptFailure>, elapsed: Duration) -> Error {
    match last {
        Some(AttemptFailure::Status(answer)) => Error::new(answer.kind, answer.text),
        Some(AttemptFailure::Broken(error) | AttemptFailure::NoConnection(error)) => {
            Error::new(error.kind, error.text)
        }
        Some(AttemptFailure::Silence) | None => {
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let elapsed = Duration::from_millis(millis);
            Error::new(ErrorKind::Timeout, format!("no answer in {elapsed:?}"))
        }
    }
}

/// The kind of the error when the deadline passes after this failure.
fn kind_of_late(last: &AttemptFailure) -> ErrorKind {
    match last {
        // The user name and the password may be right: no new token was fetched in time, and the
        // next call may get one.
        AttemptFailure::Status(answer)
            if answer.kind == ErrorKind::Unauthenticated && last.token_rejection().is_some() =>
        {
            ErrorKind::Timeout
        }
        AttemptFailure::Status(answer) => answer.kind,
        AttemptFailure::NoConnection(error) | AttemptFailure::Broken(error) => error.kind,
        AttemptFailure::Silence => ErrorKind::Timeout,
    }
}

#[cfg(test)]
mod tests;

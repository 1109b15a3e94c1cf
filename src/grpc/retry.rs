//! Decides whether a failed attempt may be repeated, and on which member. Pure.
//!
//! A read may always be repeated. A write may be repeated only when it provably was not executed:
//! its bytes never left, or the server said so. A gRPC code is not a proof: a reset connection, a
//! corrupt reply and a timeout after the write have the same codes.

use std::fmt;

use super::connect::connect_error::{ConnectError, RequestSent};
use super::rpc_error::RpcError;
use crate::error::{ErrorKind, Executed, RetryHint, ServerError};

/// How one attempt failed.
#[derive(Clone, Debug)]
pub(crate) enum AttemptFailure {
    /// No connection could be made.
    NoConnection(ConnectError),
    /// The connection or the stream broke during the attempt.
    Broken(ConnectError),
    /// No answer arrived in the time of one attempt.
    Silence,
    /// The server answered with an error.
    Status(ServerError),
}

impl AttemptFailure {
    /// The failure of an attempt to get a connection.
    pub(crate) fn of_connecting(error: RpcError) -> Self {
        match error {
            RpcError::Connection(error) => AttemptFailure::NoConnection(error),
            RpcError::Status(answer) => AttemptFailure::Status(answer),
        }
    }

    /// What the failure shows about the member that was asked.
    pub(crate) fn member_condition(&self) -> MemberCondition {
        match self {
            AttemptFailure::NoConnection(_) | AttemptFailure::Broken(_) => MemberCondition::Healthy,
            AttemptFailure::Silence => MemberCondition::Silent,
            AttemptFailure::Status(answer) => member_condition(answer),
        }
    }

    /// The answer, if the server rejected the token with it.
    pub(crate) fn token_rejection(&self) -> Option<&ServerError> {
        match self {
            AttemptFailure::Status(answer)
                if matches!(answer.retry_hint, RetryHint::NewToken(_)) =>
            {
                Some(answer)
            }
            _ => None,
        }
    }
}

impl From<RpcError> for AttemptFailure {
    /// The failure of a request that was sent on a connection.
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Connection(error) => AttemptFailure::Broken(error),
            RpcError::Status(answer) => AttemptFailure::Status(answer),
        }
    }
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptFailure::NoConnection(error) | AttemptFailure::Broken(error) => error.fmt(f),
            AttemptFailure::Silence => f.write_str("no answer"),
            AttemptFailure::Status(answer) => f.write_str(&answer.text),
        }
    }
}

/// Whether a request may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestClass {
    /// It changes nothing, or repeating it has no further effect.
    Repeatable,
    /// Executing it twice has an effect.
    Write,
    /// A write that a follower forwards to the leader, repeatedly if necessary. An error about the
    /// follower itself may follow such an attempt, so it proves nothing.
    Forwarded,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryDecision {
    /// Repeat the request.
    pub(crate) retry: bool,
    /// The request may have been executed.
    pub(crate) maybe_executed: bool,
}

/// The condition of a member, as a failure shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberCondition {
    /// The failure says nothing against the member.
    Healthy,
    /// No answer arrived: check the connection, and use another member meanwhile.
    Silent,
    /// The member answers but cannot serve.
    Unable,
    /// The member is a learner.
    Learner,
}

impl fmt::Display for MemberCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemberCondition::Healthy => "nothing is wrong",
            MemberCondition::Silent => "it does not answer",
            MemberCondition::Unable => "it cannot serve now",
            MemberCondition::Learner => "it is a learner",
        })
    }
}

/// Decides whether a request of this class is repeated after the failure of one attempt.
pub(crate) fn decide(failure: &AttemptFailure, class: RequestClass) -> RetryDecision {
    let write = class != RequestClass::Repeatable;
    let (transient, executed) = match failure {
        // A TLS failure lasts until a file or a setting is changed.
        AttemptFailure::NoConnection(error) => (error.kind != ErrorKind::Tls, false),
        AttemptFailure::Broken(error) => (true, error.sent == RequestSent::Maybe),
        AttemptFailure::Silence => (true, true),
        AttemptFailure::Status(answer) => {
            let forwarded =
                class == RequestClass::Forwarded && answer.retry_hint == RetryHint::OtherMember;
            let executed = answer.executed == Executed::Unknown || forwarded;
            (answer.retry_hint != RetryHint::None, executed)
        }
    };
    RetryDecision {
        retry: transient && !(write && executed),
        maybe_executed: write && executed,
    }
}

/// The condition of a member that answered with this error.
pub(crate) fn member_condition(error: &ServerError) -> MemberCondition {
    match error.retry_hint {
        RetryHint::OtherMember => MemberCondition::Unable,
        RetryHint::Learner => MemberCondition::Learner,
        RetryHint::None | RetryHint::SameMember | RetryHint::NewToken(_) => {
            MemberCondition::Healthy
        }
    }
}

#[cfg(test)]
mod tests;

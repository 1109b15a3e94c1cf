//! Decides whether a failed attempt may be repeated, and on which member. Pure.
//!
//! A read may always be repeated. A write may be repeated only when it provably was not executed:
//! its bytes never left, or the server said so. A gRPC code is not a proof: a reset connection, a
//! corrupt reply and a timeout after the write have the same codes.

use std::fmt;

use super::connect::connect_error::{ConnectError, RequestSent};
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
    Answer(ServerError),
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptFailure::NoConnection(fault) | AttemptFailure::Broken(fault) => fault.fmt(f),
            AttemptFailure::Silence => f.write_str("no answer"),
            AttemptFailure::Answer(answer) => f.write_str(&answer.text),
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
    /// Fetch a new token first.
    pub(crate) token: bool,
    /// The condition of the member that was asked.
    pub(crate) member: MemberCondition,
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

pub(crate) fn judge(failure: &AttemptFailure, class: RequestClass) -> RetryDecision {
    let write = class != RequestClass::Repeatable;
    let mut token = false;
    let (transient, executed, member) = match failure {
        // A TLS failure lasts until a file or a setting is changed.
        AttemptFailure::NoConnection(fault) => (
            fault.kind != ErrorKind::Tls,
            false,
            MemberCondition::Healthy,
        ),
        AttemptFailure::Broken(fault) => (
            true,
            fault.sent == RequestSent::Maybe,
            MemberCondition::Healthy,
        ),
        AttemptFailure::Silence => (true, true, MemberCondition::Silent),
        AttemptFailure::Answer(error) => {
            let member = member_condition(error);
            token = matches!(error.retry_hint, RetryHint::NewToken(_));
            let forwarded =
                class == RequestClass::Forwarded && error.retry_hint == RetryHint::OtherMember;
            let executed = error.executed == Executed::Unknown || forwarded;
            (error.retry_hint != RetryHint::None, executed, member)
        }
    };
    RetryDecision {
        retry: transient && !(write && executed),
        token,
        member,
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

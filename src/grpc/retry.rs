//! Decides whether a request is sent again after a failed attempt. Pure.
//!
//! A read may always be repeated. A write may be repeated only when it provably was not executed:
//! its bytes were never sent, or the server's answer proves it. A gRPC code is not a proof: a reset connection, a
//! corrupt reply and a timeout after the write have the same codes.

use super::attempt_failure::AttemptFailure;
use super::connect::connect_error::RequestSent;
use crate::error::{ErrorKind, Executed, RetryHint};

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

#[cfg(test)]
mod tests;

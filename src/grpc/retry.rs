//! Whether a failed attempt may be repeated, and where: by proof, never by guess.
//!
//! A read may always be repeated. A write only when it provably was not executed: its bytes never
//! left, or the server said so. Codes prove nothing: a reset connection and a garbled reply look
//! alike, and both look like a timeout that came after the write.

use std::fmt;

use super::connect::connect_error::{ConnectError, Sent};
use crate::error::{ErrorKind, Executed, Remedy, ServerError};

/// How one attempt failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// There was no connection to send it on.
    NoConnection(ConnectError),
    /// The connection broke under it.
    Broken(ConnectError),
    /// No answer in the time that one attempt has.
    Silence,
    /// The server answered with an error.
    Answer(ServerError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoConnection(fault) | Failure::Broken(fault) => fault.fmt(f),
            Failure::Silence => f.write_str("no answer"),
            Failure::Answer(answer) => f.write_str(&answer.text),
        }
    }
}

/// What repeating a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It changes nothing, or the same thing again.
    Repeatable,
    /// Executing it twice would matter.
    Write,
    /// A write that a follower passes on to the leader, as often as it takes: what the follower says of
    /// itself comes after that, and proves nothing.
    Forwarded,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Repeat the request.
    pub(crate) retry: bool,
    /// ... with another token.
    pub(crate) token: bool,
    /// What this says about the member that was asked.
    pub(crate) member: Suspicion,
    /// The request may have been executed.
    pub(crate) maybe_executed: bool,
}

/// What a failure says about a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    None,
    /// It may be dead: check it, and go elsewhere meanwhile.
    Silent,
    /// It answers, but cannot serve.
    Unable,
    /// It is a learner.
    Learner,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Suspicion::None => "nothing is wrong",
            Suspicion::Silent => "it does not answer",
            Suspicion::Unable => "it cannot serve now",
            Suspicion::Learner => "it is a learner",
        })
    }
}

pub(crate) fn judge(failure: &Failure, class: Class) -> Verdict {
    let write = class != Class::Repeatable;
    let mut token = false;
    let (transient, executed, member) = match failure {
        // What TLS fails by is there until somebody changes a file or a setting.
        Failure::NoConnection(fault) => (fault.kind != ErrorKind::Tls, false, Suspicion::None),
        Failure::Broken(fault) => (true, fault.sent == Sent::Maybe, Suspicion::None),
        Failure::Silence => (true, true, Suspicion::Silent),
        Failure::Answer(error) => {
            let member = suspicion(error);
            token = matches!(error.remedy, Remedy::Token(_));
            let forwarded = class == Class::Forwarded && error.remedy == Remedy::Elsewhere;
            let executed = error.executed == Executed::Unknown || forwarded;
            (error.remedy != Remedy::None, executed, member)
        }
    };
    Verdict {
        retry: transient && !(write && executed),
        token,
        member,
        maybe_executed: write && executed,
    }
}

/// What an error that a member answered with says about it.
pub(crate) fn suspicion(error: &ServerError) -> Suspicion {
    match error.remedy {
        Remedy::Elsewhere => Suspicion::Unable,
        Remedy::Learner => Suspicion::Learner,
        Remedy::None | Remedy::Again | Remedy::Token(_) => Suspicion::None,
    }
}

#[cfg(test)]
mod tests;

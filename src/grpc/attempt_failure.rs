//! The failure of one attempt of a call, or of a stream. Pure.

use std::fmt;

use super::connect::connect_error::ConnectError;
use super::member_condition::MemberCondition;
use super::rpc_error::RpcError;
use crate::error::{RetryHint, ServerError};

/// The failure of one attempt.
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

    /// Returns the condition of the member that this failure shows.
    pub(crate) fn member_condition(&self) -> MemberCondition {
        match self {
            AttemptFailure::NoConnection(_) | AttemptFailure::Broken(_) => MemberCondition::Healthy,
            AttemptFailure::Silence => MemberCondition::Silent,
            AttemptFailure::Status(answer) => MemberCondition::of_answer(answer),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> AttemptFailure {
        AttemptFailure::Status(ServerError::read(2, text))
    }

    fn answer(text: &str) -> AttemptFailure {
        read(&format!("etcdserver: {text}"))
    }

    #[test]
    fn only_a_rejected_token_is_renewed() {
        for (text, is_rejection) in [
            ("invalid auth token", true),
            ("revision of auth store is old", true),
            ("user name is empty", true),
            ("no leader", false),
            ("rpc not supported for learner", false),
            ("too many requests", false),
            ("permission denied", false),
        ] {
            let rejection = answer(text).token_rejection().is_some();
            assert_eq!(rejection, is_rejection, "{text}");
        }
        assert!(AttemptFailure::Silence.token_rejection().is_none());
    }

    #[test]
    fn a_member_is_avoided_only_for_its_own_failures() {
        let member = |failure: AttemptFailure| failure.member_condition();
        assert_eq!(member(answer("no leader")), MemberCondition::Unable);
        assert_eq!(member(read("raft: stopped")), MemberCondition::Unable);
        let learner = answer("rpc not supported for learner");
        assert_eq!(member(learner), MemberCondition::Learner);
        assert_eq!(member(AttemptFailure::Silence), MemberCondition::Silent);
        assert_eq!(member(answer("key not found")), MemberCondition::Healthy);
        assert_eq!(
            member(answer("too many requests")),
            MemberCondition::Healthy
        );
        // The followers of a leader that transfers leadership would wait for it.
        assert_eq!(
            member(read("raft proposal dropped")),
            MemberCondition::Healthy
        );
    }
}

//! Whether a failed attempt may be repeated, and where: by proof, never by guess.
//!
//! A read may always be repeated. A write only when it provably was not executed: its bytes never
//! left, or the server said so. Codes prove nothing: a reset connection and a garbled reply look
//! alike, and both look like a timeout that came after the write.

use std::fmt;

use super::fault::{Fault, Sent};
use crate::error::{ErrorKind, Executed, Remedy, ServerError};

/// How one attempt failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// There was no connection to send it on.
    NoConnection(Fault),
    /// The connection broke under it.
    Broken(Fault),
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

pub(crate) fn judge(failure: &Failure, write: bool) -> Verdict {
    let mut token = false;
    let (transient, executed, member) = match failure {
        // What TLS fails by is there until somebody changes a file or a setting.
        Failure::NoConnection(fault) => (fault.kind != ErrorKind::Tls, false, Suspicion::None),
        Failure::Broken(fault) => (true, fault.sent == Sent::Maybe, Suspicion::None),
        Failure::Silence => (true, true, Suspicion::Silent),
        Failure::Answer(error) => {
            let member = suspicion(error);
            let overloaded = error.kind == ErrorKind::RateLimited;
            token = matches!(error.remedy, Remedy::Token(_));
            let transient = member != Suspicion::None || overloaded || token;
            (transient, error.executed == Executed::Unknown, member)
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
        Remedy::None | Remedy::Token(_) => Suspicion::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Failure {
        Failure::Answer(ServerError::read(14, &format!("etcdserver: {text}")))
    }

    fn broken(sent: Sent) -> Failure {
        Failure::Broken(Fault {
            sent,
            kind: ErrorKind::Unavailable,
            hung_up: false,
            text: String::new(),
        })
    }

    #[test]
    fn reads_are_repeated_after_anything_that_may_pass() {
        let passing = [
            Failure::NoConnection(Fault::unconnected("")),
            broken(Sent::Maybe),
            Failure::Silence,
            answer("no leader"),
            answer("leader changed"),
            answer("request timed out"),
            answer("rpc not supported for learner"),
            answer("too many requests"),
        ];
        for failure in passing {
            assert!(judge(&failure, false).retry, "{failure:?}");
        }
        for text in [
            "key not found",
            "permission denied",
            "mvcc: database space exceeded",
        ] {
            assert!(!judge(&answer(text), false).retry, "{text}");
        }
    }

    #[test]
    fn what_tls_fails_by_is_not_tried_again() {
        for write in [true, false] {
            let verdict = judge(&Failure::NoConnection(Fault::tls("expired")), write);
            assert!(!verdict.retry && !verdict.maybe_executed);
        }
    }

    #[test]
    fn writes_are_repeated_only_with_proof() {
        let proven = [
            Failure::NoConnection(Fault::unconnected("")),
            broken(Sent::No),
            answer("no leader"),
            answer("rpc not supported for learner"),
            answer("too many requests"),
        ];
        for failure in proven {
            let verdict = judge(&failure, true);
            assert!(verdict.retry && !verdict.maybe_executed, "{failure:?}");
        }
        let doubtful = [
            broken(Sent::Maybe),
            Failure::Silence,
            answer("leader changed"),
            answer("request timed out"),
            answer("server stopped"),
        ];
        for failure in doubtful {
            let verdict = judge(&failure, true);
            assert!(!verdict.retry && verdict.maybe_executed, "{failure:?}");
        }
    }

    #[test]
    fn what_was_refused_for_its_token_is_repeated_with_another() {
        for text in [
            "invalid auth token",
            "revision of auth store is old",
            "user name is empty",
        ] {
            for write in [false, true] {
                let verdict = judge(&answer(text), write);
                assert!(verdict.retry && verdict.token, "{text}");
                assert!(!verdict.maybe_executed, "{text}");
            }
        }
        assert!(!judge(&answer("no leader"), false).token);
    }

    #[test]
    fn a_refused_write_is_not_in_doubt() {
        let verdict = judge(&answer("mvcc: database space exceeded"), true);
        assert!(!verdict.retry && !verdict.maybe_executed);
    }

    #[test]
    fn a_member_is_left_only_for_its_own_faults() {
        assert_eq!(judge(&answer("no leader"), false).member, Suspicion::Unable);
        assert_eq!(
            judge(&answer("rpc not supported for learner"), false).member,
            Suspicion::Learner
        );
        assert_eq!(judge(&Failure::Silence, true).member, Suspicion::Silent);
        assert_eq!(
            judge(&answer("key not found"), false).member,
            Suspicion::None
        );
    }
}

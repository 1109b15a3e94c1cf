//! What a transaction that failed says about the steps in it. Pure.

use crate::error::{Error, ErrorKind};

/// What the failure of a transaction is evidence of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There was no answer, or one that does not say whether the steps are acceptable.
    NoAnswer,
    /// The lease that the steps write under does not exist.
    LeaseGone,
    /// etcd refuses every request of this sort for the time being, whatever the steps are.
    Everything,
    /// One of the steps, or several, is not acceptable.
    Step,
    /// There are too many steps for one transaction.
    TooMany,
    /// The steps are too large for one request.
    TooLarge,
}

impl Refusal {
    /// Reads a failure. Decides by the kind of the error and by whether the transaction may have
    /// been executed, never by a text.
    pub(super) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::LeaseNotFound => Refusal::LeaseGone,
            ErrorKind::PermissionDenied => Refusal::Step,
            ErrorKind::TooLarge => Refusal::TooLarge,
            // A registrar builds its transactions itself: the one thing about them that a server can
            // find invalid is "too many operations in txn request".
            ErrorKind::InvalidArgument => Refusal::TooMany,
            // The alarm NOSPACE refuses every put, and "too many requests" is about the load.
            ErrorKind::NoSpace
            | ErrorKind::Corrupt
            | ErrorKind::RateLimited
            | ErrorKind::Unauthenticated
            | ErrorKind::FailedPrecondition
            | ErrorKind::Unimplemented => Refusal::Everything,
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::Compacted
            | ErrorKind::FutureRevision
            | ErrorKind::Server
                if !error.outcome_unknown() =>
            {
                Refusal::Step
            }
            _ => Refusal::NoAnswer,
        }
    }
}

/// Whether a failure will come again until somebody changes a permission, a setting or a file: who
/// wants an answer now need not wait for another try.
pub(super) fn is_final(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::TooLarge
            | ErrorKind::InvalidArgument
            | ErrorKind::NoSpace
            | ErrorKind::Corrupt
            | ErrorKind::Unauthenticated
            | ErrorKind::Unimplemented
            | ErrorKind::Tls
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_that_leaves_the_outcome_open_is_no_refusal() {
        let doubtful = Error::new(ErrorKind::Server, "").unknown_outcome(true);
        assert_eq!(Refusal::of(&doubtful), Refusal::NoAnswer);
    }

    /// Every kind that a transaction can fail with: what it says about the steps, and whether another
    /// try is of no use.
    #[test]
    fn what_is_about_one_step_differs_from_what_is_about_all() {
        use ErrorKind::*;
        let table = [
            (PermissionDenied, Refusal::Step, true),
            (TooLarge, Refusal::TooLarge, true),
            (InvalidArgument, Refusal::TooMany, true),
            (NoSpace, Refusal::Everything, true),
            (Corrupt, Refusal::Everything, true),
            (Unauthenticated, Refusal::Everything, true),
            (Unimplemented, Refusal::Everything, true),
            (RateLimited, Refusal::Everything, false),
            (FailedPrecondition, Refusal::Everything, false),
            (LeaseNotFound, Refusal::LeaseGone, false),
            (NotFound, Refusal::Step, false),
            (AlreadyExists, Refusal::Step, false),
            (Conflict, Refusal::Step, false),
            (Compacted, Refusal::Step, false),
            (FutureRevision, Refusal::Step, false),
            (Server, Refusal::Step, false),
            (Tls, Refusal::NoAnswer, true),
            (Unavailable, Refusal::NoAnswer, false),
            (Timeout, Refusal::NoAnswer, false),
            (Protocol, Refusal::NoAnswer, false),
            (Closed, Refusal::NoAnswer, false),
        ];
        for (kind, refusal, is_final) in table {
            assert_eq!(Refusal::of(&Error::new(kind, "")), refusal, "{kind:?}");
            assert_eq!(super::is_final(kind), is_final, "{kind:?}");
        }
    }
}

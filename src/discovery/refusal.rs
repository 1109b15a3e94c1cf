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
    fn an_outage_is_no_refusal() {
        for kind in [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Protocol,
            ErrorKind::Tls,
            ErrorKind::Closed,
        ] {
            let error = Error::new(kind, "");
            assert_eq!(Refusal::of(&error), Refusal::NoAnswer, "{kind:?}");
        }
        let doubtful = Error::new(ErrorKind::Server, "").unknown_outcome(true);
        assert_eq!(Refusal::of(&doubtful), Refusal::NoAnswer);
    }

    #[test]
    fn what_is_about_one_step_differs_from_what_is_about_all() {
        let of = |kind| Refusal::of(&Error::new(kind, ""));
        assert_eq!(of(ErrorKind::PermissionDenied), Refusal::Step);
        assert_eq!(of(ErrorKind::Server), Refusal::Step);
        assert_eq!(of(ErrorKind::TooLarge), Refusal::TooLarge);
        assert_eq!(of(ErrorKind::InvalidArgument), Refusal::TooMany);
        assert_eq!(of(ErrorKind::NoSpace), Refusal::Everything);
        assert_eq!(of(ErrorKind::Unauthenticated), Refusal::Everything);
        assert_eq!(of(ErrorKind::LeaseNotFound), Refusal::LeaseGone);
    }
}

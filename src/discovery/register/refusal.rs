//! Classifies the failure of a transaction by what it shows about the steps in it. Pure.

use crate::error::{Error, ErrorKind};

/// The cause of a failed transaction, as far as its error shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There was no answer, or one that does not show whether the steps are acceptable.
    NoAnswer,
    /// The lease that the steps write under does not exist.
    LeaseGone,
    /// etcd refuses every request of this kind for the time being, independent of its steps.
    Everything,
    /// At least one of the steps is not acceptable.
    Step,
    /// There are too many steps for one transaction.
    TooMany,
    /// The steps are too large for one request.
    TooLarge,
}

impl Refusal {
    /// Classifies an error by its kind and by whether the transaction may have been executed, never by
    /// its text.
    pub(super) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::LeaseNotFound => Refusal::LeaseGone,
            ErrorKind::PermissionDenied => Refusal::Step,
            ErrorKind::TooLarge => Refusal::TooLarge,
            // A registrar builds its transactions itself. The only invalid argument that a server can
            // find in them is "too many operations in txn request".
            ErrorKind::InvalidArgument => Refusal::TooMany,
            // The alarm NOSPACE refuses every put, and "too many requests" depends on the load only.
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

/// Whether an error will repeat until a permission, a setting or a file is changed. A caller that
/// waits for an answer then need not wait for another attempt.
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
    fn a_server_error_with_unknown_outcome_is_not_a_refusal() {
        let unknown = Error::new(ErrorKind::Server, "").unknown_outcome(true);
        assert_eq!(Refusal::of(&unknown), Refusal::NoAnswer);
    }

    /// Every kind that a transaction can fail with, its refusal, and whether it is final.
    #[test]
    fn refusals_of_one_step_are_distinguished_from_refusals_of_all_steps() {
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

//! The reason why a lease is not kept alive any more.

use std::time::Duration;

use super::stream_failure::StreamFailure;
use crate::error::{Error, ErrorKind, Operation};
use crate::types::LeaseId;

/// The text for a lease that the server does not have. The server does not report the reason.
pub(in crate::rpc::lease) const NO_SUCH_LEASE: &str =
    "the server has no such lease: it expired or was revoked";

/// The reason why a lease is not kept alive any more.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rpc::lease) enum LeaseEnd {
    /// The server has no such lease.
    NotFound,
    /// Its time ran out: no renewal was answered for `silent`.
    Expired {
        ttl: Duration,
        silent: Duration,
        last: Option<StreamFailure>,
    },
    /// No renewal was ever answered.
    Unanswered {
        within: Duration,
        last: Option<StreamFailure>,
    },
    /// No renewal was ever answered, and none can be: TLS fails at every endpoint, or the user has no
    /// permission to renew it.
    Refused(StreamFailure),
}

impl LeaseEnd {
    /// The error that the holders of the lease receive as the last item.
    pub(in crate::rpc::lease) fn into_error(self, lease: LeaseId) -> Error {
        let (error, last) = match self {
            LeaseEnd::NotFound => (Error::new(ErrorKind::LeaseNotFound, NO_SUCH_LEASE), None),
            LeaseEnd::Expired { ttl, silent, last } => {
                let reason = format!(
                    "no renewal was answered for {silent:.1?}, and its time to live is {ttl:?}"
                );
                (Error::new(ErrorKind::LeaseExpired, reason), last)
            }
            LeaseEnd::Unanswered { within, last } => {
                let kind = last.as_ref().map_or(ErrorKind::Timeout, |last| last.kind);
                let reason = format!("no renewal was answered in {within:?}");
                (Error::new(kind, reason), last)
            }
            LeaseEnd::Refused(failure) => {
                let error = Error::new(failure.kind, failure.text);
                (error.at(failure.endpoint), None)
            }
        };
        let error = error.operation(Operation::about("keep alive lease", lease));
        match last {
            Some(last) => error.at(last.endpoint).last(last.text),
            None => error,
        }
    }
}

//! The attempts of one call, and the error of a call that failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::connection::Connection;
use super::retry::{AttemptFailure, RetryDecision};
use crate::error::{Error, ErrorKind, ServerError};
use crate::observe::Observer;

/// Counts the attempts of one call and keeps the last failure.
pub(super) struct Attempts {
    pub(super) count: u32,
    pub(super) last: Option<(Option<Arc<str>>, AttemptFailure)>,
}

impl Attempts {
    pub(super) fn note(&mut self, connection: Option<&Connection>, failure: AttemptFailure) {
        self.count += 1;
        self.last = Some((connection.map(|c| Arc::clone(&c.endpoint.text)), failure));
    }

    /// Reports to the observer that another attempt follows.
    pub(super) fn again(&self, observer: &Observer) {
        if let Some((endpoint, failure)) = &self.last {
            observer.retrying(self.count, endpoint.as_deref(), failure);
        }
    }

    pub(super) fn endpoint(&self) -> Option<Arc<str>> {
        self.last
            .as_ref()
            .and_then(|(endpoint, _)| endpoint.clone())
    }

    /// The error of a call that has no valid token.
    #[cold]
    pub(super) fn refused(self, answer: ServerError, begun: Instant) -> Error {
        Error::new(answer.kind, answer.text)
            .at(self.endpoint())
            .tried(self.count.max(1), begun.elapsed())
    }

    /// The error of a call that is not repeated.
    #[cold]
    pub(super) fn give_up(self, decision: RetryDecision, begun: Instant) -> Error {
        let elapsed = begun.elapsed();
        let endpoint = self.endpoint();
        let error = match self.last {
            Some((_, AttemptFailure::Answer(answer))) => Error::new(answer.kind, answer.text),
            Some((_, AttemptFailure::Broken(fault) | AttemptFailure::NoConnection(fault))) => {
                Error::new(fault.kind, fault.text)
            }
            Some((_, AttemptFailure::Silence)) | None => Error::new(
                ErrorKind::Timeout,
                format!("no answer in {}", short(elapsed)),
            ),
        };
        error
            .at(endpoint)
            .tried(self.count, elapsed)
            .unknown_outcome(decision.maybe_executed)
    }
}

/// A duration rounded down to the millisecond.
fn short(elapsed: Duration) -> String {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    format!("{:?}", Duration::from_millis(millis))
}

//! Ordered reads: a view stores the newest revision that it has returned, and rejects older answers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::grpc::Transport;
use crate::rpc::namespace::Namespace;
use crate::rpc::request;
use crate::rpc::request::Request;
use crate::types::Revision;
use crate::util::atomic::AtomicI64;
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The wait between answers that are too old, when no other member can be asked.
const BETWEEN_ANSWERS: Backoff =
    Backoff::new(Duration::from_millis(25), Duration::from_millis(500));

/// The maximum number of answers that are too old, for each endpoint.
const TRIES: usize = 5;

/// The newest revision that a view has returned.
#[derive(Debug, Default)]
pub(super) struct Order {
    shown: AtomicI64,
}

/// The age of an answer, compared with the newest that the view has returned.
#[derive(Debug, PartialEq, Eq)]
enum Worth {
    /// It is new enough.
    Good,
    /// The member that gave it is behind.
    Behind,
    /// The whole store is behind.
    Rewound,
}

/// Compares the revision of an answer with the newest one that was returned before its request.
fn judge(shown: Revision, before: Revision, writes: bool, repeatable: bool) -> Worth {
    // A write is not repeated, whatever its revision is: the next read detects a rewound store.
    if shown >= before || shown == Revision::NONE || writes {
        Worth::Good
    } else if repeatable {
        Worth::Behind
    } else {
        Worth::Rewound
    }
}

impl Order {
    pub(super) async fn execute<R: Request>(
        &self,
        request: R,
        namespace: Option<&Namespace>,
        transport: Arc<Transport>,
        timeout: Duration,
    ) -> Result<R::Response> {
        // Read before the request: only earlier answers order this one.
        let (begun, before) = (Instant::now(), Revision::new(self.shown.load(Relaxed)));
        let (about, writes) = (request.operation(), request.writes());
        // With many members, each one gets its attempts.
        let most = TRIES.saturating_mul(transport.address_count());
        let mut backoff = BETWEEN_ANSWERS;
        let mut next = request;
        let mut tries = 0;
        loop {
            let again = next.again();
            let role = next.role();
            let used = transport.current(role);
            let left = timeout.saturating_sub(begun.elapsed());
            let answer = request::execute(next, namespace, Arc::clone(&transport), left).await;
            tries += 1;
            let failed = match answer {
                Ok(response) => {
                    let shown = R::shown(&response);
                    match judge(shown, before, writes, again.is_some()) {
                        Worth::Good => {
                            // Overlapping calls can end in any order; the newest revision counts.
                            self.shown.fetch_max(shown.get(), Relaxed);
                            return Ok(response);
                        }
                        Worth::Rewound => return Err(rewound(before, shown).operation(about)),
                        Worth::Behind => stale(before, shown),
                    }
                }
                // A member that is behind has not reached a revision that another one has returned.
                Err(error) if error.kind() == ErrorKind::FutureRevision => error,
                Err(error) => return Err(error),
            };
            // Another member is asked at once; the same member after a wait.
            let pause = match used.is_some_and(|used| transport.lagging(role, &used)) {
                true => Duration::ZERO,
                false => backoff.next(jitter::fraction()),
            };
            let too_late = begun.elapsed() + pause >= timeout;
            next = match again {
                Some(again) if tries < most && !too_late => again,
                _ => {
                    let tries = u32::try_from(tries).unwrap_or(u32::MAX);
                    return Err(failed.operation(about).tried(tries, begun.elapsed()));
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

#[cold]
fn stale(before: Revision, shown: Revision) -> Error {
    let reason = format!(
        "every member that answered is behind: revision {before} was returned before, and the last answer has revision {shown}"
    );
    Error::new(ErrorKind::Stale, reason)
}

#[cold]
fn rewound(before: Revision, shown: Revision) -> Error {
    let reason = format!(
        "the store lost data or was restored from a backup: revision {before} was returned before, and its revision is {shown}"
    );
    Error::new(ErrorKind::Rewound, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_older_answer_to_a_read_is_refused() {
        let judge =
            |shown, writes, again| judge(Revision::new(shown), Revision::new(5), writes, again);
        for repeatable in [true, false] {
            assert_eq!(judge(5, false, repeatable), Worth::Good);
            assert_eq!(judge(6, false, repeatable), Worth::Good);
            assert_eq!(judge(0, false, repeatable), Worth::Good, "it shows none");
        }
        assert_eq!(judge(4, false, true), Worth::Behind);
        assert_eq!(judge(4, false, false), Worth::Rewound);
        assert_eq!(judge(4, true, false), Worth::Good, "it is done");
    }
}

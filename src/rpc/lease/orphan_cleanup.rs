//! Revokes the lease of a grant that failed although the server may have executed it.
//!
//! Only the failed call has the id of such a lease. Without the cleanup the lease would live for its
//! whole time to live, and a caller that repeats the grant would add another one.

use std::sync::Arc;
use std::time::Duration;

use super::deadline::Deadline;
use super::revoke::Revoke;
use crate::error::ErrorKind;
use crate::grpc::Transport;
use crate::rpc::request::sealed::Rpc as _;
use crate::types::LeaseId;
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// The time limit of one attempt. It is longer than a short timeout that made the grant fail.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The waits between attempts.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// The time within which the grant may still arrive at the server. Until then, the answer "no such lease" is not
/// final.
const GRANT_IN_TRANSIT: Duration = Duration::from_secs(30);

/// Revokes the lease in the background, for as long as it can live. When too many cleanups are running,
/// the lease is left to expire.
pub(super) fn revoke_orphan(transport: &Arc<Transport>, id: LeaseId, ttl: Duration) {
    let work = until_gone(Arc::clone(transport), id, ttl);
    // Without room for another cleanup, the lease expires.
    let _ = transport.clean_up(work);
}

async fn until_gone(transport: Arc<Transport>, id: LeaseId, ttl: Duration) {
    let (expired, arrived) = (Deadline::after(ttl), Deadline::after(GRANT_IN_TRANSIT));
    let mut backoff = RETRY;
    while !expired.has_passed() {
        // Boxed, because the future of a call is large.
        let revoking = Revoke::new(id).execute(Arc::clone(&transport), ATTEMPT);
        match Box::pin(revoking).await {
            Ok(_) => return,
            Err(error) if error.kind() == ErrorKind::LeaseNotFound => {
                // Until then the grant may still be in flight, and create the lease after this
                // answer.
                if arrived.has_passed() {
                    return;
                }
            }
            // An outage: the lease may still exist after it.
            Err(error) if error.is_retryable() || error.outcome_unknown() => {}
            // A refusal does not change by waiting; the lease expires.
            Err(_) => return,
        }
        let pause = backoff.next(jitter::fraction());
        tokio::time::sleep(pause.min(expired.remaining())).await;
    }
}

//! Revoking the lease of a grant that failed although the server may have executed it.
//!
//! Nobody knows the id of such a lease but the call that failed. Left alone it would live for its
//! whole time to live, and a caller that tries again would add another.

use std::sync::Arc;
use std::time::Duration;

use super::{Deadline, Revoke};
use crate::error::ErrorKind;
use crate::grpc::Transport;
use crate::rpc::request::sealed::Rpc as _;
use crate::types::LeaseId;
use crate::util::backoff::Backoff;
use crate::util::jitter;

/// How long one attempt to revoke may take: longer than the timeout that was too short for the grant.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The waits between attempts.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// How long a grant may still be on its way: until then "no such lease" is not the end.
const ON_ITS_WAY: Duration = Duration::from_secs(30);

/// Revokes the lease in the background, for as long as it can live. When too many are being revoked
/// already it is left to expire.
pub(super) fn revoke(transport: &Arc<Transport>, id: LeaseId, ttl: Duration) {
    let work = until_gone(Arc::clone(transport), id, ttl);
    let _ = transport.clean_up(work);
}

async fn until_gone(transport: Arc<Transport>, id: LeaseId, ttl: Duration) {
    let (expired, arrived) = (Deadline::after(ttl), Deadline::after(ON_ITS_WAY));
    let mut backoff = AGAIN;
    while !expired.has_passed() {
        // In a box: a call is much larger than all the rest.
        let revoking = Revoke::new(id).exchange(Arc::clone(&transport), ATTEMPT);
        match Box::pin(revoking).await {
            Ok(_) => return,
            Err(error) if error.kind() == ErrorKind::LeaseNotFound => {
                if arrived.has_passed() {
                    return;
                }
            }
            Err(error) if error.is_retryable() || error.outcome_unknown() => {}
            Err(_) => return,
        }
        let pause = backoff.next(jitter::fraction());
        tokio::time::sleep(pause.min(expired.remaining())).await;
    }
}

//! Times to live as the server sends them.

use std::time::Duration;

/// A time to live in seconds, as the server sends it. `None` when the lease has ended.
pub(super) fn ttl_from_seconds(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

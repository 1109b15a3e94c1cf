//! A point in time on the clock that keeps running while the machine sleeps.
//!
//! `std::time::Instant` stands still during suspend on Linux; a lease does not. Whoever decides
//! about leases counts in these. The type is a plain value; `rt::clock` reads the clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Time since the machine booted, sleep included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct BootTime(Duration);

impl BootTime {
    pub(crate) const fn from_boot(since: Duration) -> Self {
        BootTime(since)
    }

    /// The time from `earlier` to here; zero when that is in the future.
    pub(crate) fn since(self, earlier: BootTime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootTime {
    type Output = BootTime;

    fn add(self, span: Duration) -> BootTime {
        BootTime(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for BootTime {
    type Output = BootTime;

    fn sub(self, span: Duration) -> BootTime {
        BootTime(self.0.saturating_sub(span))
    }
}

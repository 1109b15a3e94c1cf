//! A point in time on the clock that includes suspend.
//!
//! `std::time::Instant` stops during suspend on Linux; a lease does not. Decisions about leases use
//! this type. It is a plain value; `runtime::clock` reads the clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// The time since the machine booted, including suspend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct BootTime(Duration);

impl BootTime {
    pub(crate) const fn from_boot(since: Duration) -> Self {
        BootTime(since)
    }

    /// The time from `earlier` to this point; zero when `earlier` is later.
    pub(crate) fn since(self, earlier: BootTime) -> Duration {
        // Times that two threads read may be compared in the other order.
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

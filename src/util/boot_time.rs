//! A point in time on the clock that includes suspend.
//!
//! `std::time::Instant` stops during suspend on Linux; a lease does not. Decisions about leases use
//! this type. It is a plain value; `runtime::clock` reads the clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// The time since the machine booted, including suspend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct BootTime {
    nanos: u64,
}

impl BootTime {
    pub(crate) const fn from_boot(since: Duration) -> Self {
        BootTime {
            nanos: nanos(since),
        }
    }

    /// The time from `earlier` to this point; zero when `earlier` is later.
    pub(crate) fn since(self, earlier: BootTime) -> Duration {
        // Times that two threads read may be compared in the other order.
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }
}

impl Add<Duration> for BootTime {
    type Output = BootTime;

    fn add(self, span: Duration) -> BootTime {
        BootTime {
            nanos: self.nanos.saturating_add(nanos(span)),
        }
    }
}

impl Sub<Duration> for BootTime {
    type Output = BootTime;

    fn sub(self, span: Duration) -> BootTime {
        BootTime {
            nanos: self.nanos.saturating_sub(nanos(span)),
        }
    }
}

/// The nanoseconds of a span; those of 584 years for a longer one.
const fn nanos(span: Duration) -> u64 {
    let nanos = span.as_nanos();
    match nanos > u64::MAX as u128 {
        true => u64::MAX,
        false => nanos as u64,
    }
}

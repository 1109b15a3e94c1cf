//! The point in time at which a lease ends.

use std::fmt;
use std::time::Duration;

use crate::runtime::clock;
use crate::util::boot_time::BootTime;

/// A point in time on a clock that keeps running while the machine is suspended.
///
/// The time to live of a lease passes during that time, so [`std::time::Instant`], which stops on some
/// systems, would report time that is no longer left. On systems other than Linux and Android, this is
/// the monotonic clock.
///
/// ```
/// use std::time::Duration;
/// use etcd_blocking::lease::Deadline;
///
/// assert_eq!(Deadline::PASSED.remaining(), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(BootTime);

impl Deadline {
    pub(crate) const fn at(time: BootTime) -> Self {
        Deadline(time)
    }

    /// The point in time.
    pub(super) const fn time(self) -> BootTime {
        self.0
    }

    /// A deadline in the past.
    pub const PASSED: Deadline = Deadline(BootTime::from_boot(Duration::ZERO));

    /// The deadline that is `span` from now.
    pub fn after(span: Duration) -> Self {
        Deadline(clock::now() + span)
    }

    /// The time until the deadline. Zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.0.since(clock::now())
    }

    /// Whether the deadline has passed.
    pub fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadline(in {:?})", self.remaining())
    }
}

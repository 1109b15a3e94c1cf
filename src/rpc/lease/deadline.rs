//! The point in time at which a lease ends.

use std::fmt;
use std::time::Duration;

use crate::runtime::clock;
use crate::util::boot_time::BootTime;

/// A point in time on the clock that keeps running while the machine sleeps.
///
/// A lease counts that time too, so [`std::time::Instant`], which stands still meanwhile, would say
/// that there is time left when there is none. (Where the system has no such clock, outside of Linux
/// and Android, this is the monotonic clock.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(BootTime);

impl Deadline {
    pub(crate) const fn at(time: BootTime) -> Self {
        Deadline(time)
    }

    /// A deadline that has passed already.
    pub const PASSED: Deadline = Deadline(BootTime::from_boot(Duration::ZERO));

    /// The point this far from now.
    pub fn after(span: Duration) -> Self {
        Deadline(clock::now() + span)
    }

    /// The time left until then; zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.0.since(clock::now())
    }

    /// Whether it has passed.
    pub fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadline(in {:?})", self.remaining())
    }
}

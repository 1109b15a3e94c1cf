//! The clock that goes on while the machine sleeps, as leases do.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since the machine was started, the same in all its processes.
pub(crate) fn boot_now() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

//! Reads the boot-time clock.

use crate::util::boot_time::BootTime;

/// The current time on the clock that includes suspend.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn now() -> BootTime {
    use rustix::time::{ClockId, clock_gettime};

    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    BootTime::from_boot(std::time::Duration::new(seconds, nanos))
}

/// The current time on the monotonic clock, the closest one on this system.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn now() -> BootTime {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    BootTime::from_boot(START.elapsed())
}

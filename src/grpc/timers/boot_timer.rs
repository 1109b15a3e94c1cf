//! A timer on the boot-time clock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::util::boot_time::BootTime;

/// The longest sleep of a tokio timer. On Linux and Android, its clock stops while the machine is suspended,
/// and the boot-time clock does not; on other systems they are one clock.
const MAX_SLEEP: Duration = if cfg!(any(target_os = "linux", target_os = "android")) {
    Duration::from_secs(1)
} else {
    Duration::from_secs(24 * 3600)
};

/// A timer on the boot-time clock: a timer of the kernel on Linux and Android; a tokio timer on other
/// systems, and when the process has no file descriptor left.
pub(super) struct BootTimer {
    /// The time at which the timer fires; `None` while it is not set.
    at: Option<BootTime>,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    kernel: Option<kernel::KernelTimer>,
    sleep: Pin<Box<Sleep>>,
}

impl BootTimer {
    pub(super) fn new() -> Self {
        BootTimer {
            at: None,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            kernel: kernel::KernelTimer::new(),
            sleep: Box::pin(sleep(Duration::ZERO)),
        }
    }

    /// A timer as on systems that have no timer file.
    #[cfg(test)]
    pub(super) fn of_tokio() -> Self {
        BootTimer {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            kernel: None,
            ..BootTimer::new()
        }
    }

    /// Sets the timer; `None` stops it.
    pub(super) fn set(&mut self, at: Option<BootTime>, now: BootTime) {
        if self.at == at {
            return;
        }
        self.at = at;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(kernel) = &self.kernel {
            if kernel.set(at) {
                return;
            }
            self.kernel = None;
        }
        if let Some(at) = at {
            let wait = at.since(now).min(MAX_SLEEP);
            self.sleep.as_mut().reset(Instant::now() + wait);
        }
    }

    /// Ready when the timer fired, or has to be set again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.at.is_none() {
            return Poll::Pending;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(kernel) = &mut self.kernel {
            ready!(kernel.poll(cx));
            self.at = None;
            return Poll::Ready(());
        }
        ready!(self.sleep.as_mut().poll(cx));
        self.at = None;
        Poll::Ready(())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod kernel {
    use std::os::fd::AsFd;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::{AsyncRead, ReadBuf};
    use tokio::net::unix::pipe::Receiver;

    use crate::util::boot_time::BootTime;

    const ZERO: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };

    /// A timer file. It fires also when its time passed while the machine was suspended. tokio's reader of
    /// a pipe reads any file that can be polled.
    pub(super) struct KernelTimer(Receiver);

    impl KernelTimer {
        /// `None` when the process has no file descriptor left.
        pub(super) fn new() -> Option<Self> {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let file = timerfd_create(TimerfdClockId::Boottime, flags).ok()?;
            Receiver::from_owned_fd_unchecked(file)
                .ok()
                .map(KernelTimer)
        }

        /// Sets the timer; `None` stops it. Returns `false` when that failed.
        pub(super) fn set(&self, at: Option<BootTime>) -> bool {
            let it_value = at.map_or(ZERO, |at| {
                let since_boot = at.since(BootTime::default());
                Timespec {
                    tv_sec: i64::try_from(since_boot.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: since_boot.subsec_nanos().into(),
                }
            });
            let value = Itimerspec {
                it_interval: ZERO,
                it_value,
            };
            timerfd_settime(self.0.as_fd(), TimerfdTimerFlags::ABSTIME, &value).is_ok()
        }

        /// Ready when the timer fired.
        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            // A count of 8 bytes, and room that shows tokio that there is no more to read.
            let mut count = [0; 16];
            let mut count = ReadBuf::new(&mut count);
            match ready!(Pin::new(&mut self.0).poll_read(cx, &mut count)) {
                Ok(()) => Poll::Ready(()),
                // The runtime shuts down.
                Err(_) => Poll::Pending,
            }
        }
    }
}

//! A lease that is kept alive, as the schedule sees it.

use std::time::Duration;

use super::stream_failure::StreamFailure;
use super::stream_role::StreamRole;
use crate::util::backoff::Backoff;
use crate::util::boot_time::BootTime;

/// A lease that is kept alive.
#[derive(Debug)]
pub(super) struct ScheduledLease {
    pub(super) until: BootTime,
    /// The time to live of the last answer; `None` before the first one.
    pub(super) ttl: Option<Duration>,
    pub(super) within: Duration,
    pub(super) repeated: bool,
    pub(super) phase: Phase,
    pub(super) role: StreamRole,
    pub(super) lateness: Lateness,
    /// The last refusal and the waits between repetitions, while its renewals are refused.
    pub(super) refused: Option<Box<(StreamFailure, Backoff)>>,
}

/// Whether a lease is late, or will be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lateness {
    /// It was never renewed, or its renewal is not due yet.
    No,
    /// In `late`.
    At(BootTime),
    Reported,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// In `due`.
    Renewed { due: BootTime },
    /// In `ready` of its stream.
    Ready,
    /// In `unanswered` of its stream.
    Unanswered,
}

//! The files of `src/util`; threads and atomics are stand-ins.

#[path = "../../../src/util/backoff.rs"]
pub(crate) mod backoff;
#[path = "../../../src/util/boot_time.rs"]
pub(crate) mod boot_time;
#[path = "../../../src/util/secret.rs"]
pub(crate) mod secret;

pub(crate) mod atomic {
    pub(crate) use stand_ins::atomic::*;
}

pub(crate) mod sync {
    pub(crate) use stand_ins::{Instant, OnceLock, thread};
}

/// Randomness that is the same in every run.
pub(crate) mod jitter {
    pub(crate) fn fraction() -> f64 {
        0.5
    }
}

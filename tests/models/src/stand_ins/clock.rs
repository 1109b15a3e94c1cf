//! Time as a model wants it.

use std::cell::Cell;
use std::time::Duration;

/// What happens to a thread that parks for a limited time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Timeouts {
    /// The time never passes: the thread waits until it is woken.
    #[default]
    Never,
    /// The time passes at once.
    AtOnce,
}

// One thread of the machine runs all threads of a model.
thread_local!(static TIMEOUTS: Cell<Timeouts> = const { Cell::new(Timeouts::Never) });

impl Timeouts {
    pub fn set(self) {
        TIMEOUTS.set(self);
    }

    pub(crate) fn now() -> Self {
        TIMEOUTS.get()
    }
}

/// A clock that stands still, because every run of a model has to be the same.
#[derive(Clone, Copy, Debug)]
pub struct Instant;

impl Instant {
    pub fn now() -> Self {
        Instant
    }

    pub fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// `sleep_until` of tokio. No model sleeps.
pub async fn sleep_until(until: std::time::Instant) {
    panic!("until {until:?}");
}

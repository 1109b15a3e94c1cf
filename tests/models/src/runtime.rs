//! The files of `src/runtime`, and their models.

#[path = "../../../src/runtime/bounded_queue.rs"]
mod bounded_queue;
#[path = "../../../src/runtime/bridge.rs"]
mod bridge;
#[path = "../../../src/runtime/driver.rs"]
mod driver;
#[path = "../../../src/runtime/pending.rs"]
mod pending;

mod bridge_model;
mod pending_model;
mod queue_model;

use crate::harness::Model;
pub(crate) use bounded_queue::{BoundedReceiver, BoundedSender, Capacity, bounded_queue};

/// A clock that stands still.
pub(crate) mod clock {
    use crate::util::boot_time::BootTime;

    pub(crate) fn now() -> BootTime {
        BootTime::default()
    }
}

pub(crate) fn models() -> Vec<Model> {
    [
        pending_model::MODELS,
        queue_model::MODELS,
        bridge_model::MODELS,
    ]
    .concat()
}

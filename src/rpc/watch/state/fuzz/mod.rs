//! Fuzz targets of the state machine.

// A target reports a fault by a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod history;
mod messages;
mod readers;

pub(crate) use history::history;
pub(crate) use messages::messages;

//! Chaos: a seeded plan of faults, a load whose every operation is recorded, and checkers that judge the record.

#![cfg(unix)]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so at once"
)]

#[path = "../support/mod.rs"]
mod support;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// The allocator of the system, which also counts: the soak shows whether the heap grows.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

mod check;
mod history;
mod judge;
mod plan;
mod planted;
mod run;
mod soak;

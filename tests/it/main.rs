//! The crate against real etcd.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod lease;
#[path = "../support/mod.rs"]
mod support;

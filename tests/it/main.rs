//! Everything on a real etcd.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so at once"
)]

#[path = "../support/mod.rs"]
mod support;

mod discovery;
mod harness;
mod lease;
mod local;
mod mirror;
mod stress;
mod watch;

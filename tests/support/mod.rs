//! What the integration tests share: faulty networks, scripted servers, and waiting for conditions.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a set of tools for tests: not every verb is in use at every time, and none leaves this crate"
)]

pub mod certs;
pub mod child;
pub mod frames;
pub mod gateway;
pub mod link;
pub mod link_faults;
pub mod load;
pub mod pace;
pub mod peers;
pub mod proxy;
pub mod raw;
pub mod server;
pub mod wait;

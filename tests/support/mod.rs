//! Test support: faulty networks, scripted servers, bounded waits.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "shared test tools; some are unused in some configurations"
)]

pub mod certs;
pub mod child;
pub mod frames;
pub mod gateway;
pub mod link_faults;
pub mod load;
pub mod pace;
pub mod peers;
pub mod proxy;
pub mod raw;
pub mod server;
pub mod wait;

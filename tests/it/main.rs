//! Integration tests on real etcd servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so at once"
)]

#[path = "../support/mod.rs"]
mod support;

#[cfg(target_os = "linux")]
mod addresses;
mod auth;
mod bridge;
mod cache;
mod cases;
mod chaos;
mod cluster;
mod dependencies;
mod discovery;
mod docs;
mod endpoints;
mod examples;
mod faults;
mod go;
mod harness;
mod hostile;
mod kv;
mod layers;
mod lease;
mod local;
mod locks;
mod lost_store;
mod maintenance;
mod make_mirror;
mod members;
mod metrics;
mod mirror;
mod namespace;
mod ordered;
mod outage;
mod outcomes;
mod pages;
mod peers;
mod recipes;
mod shared_client;
mod shared_connections;
mod short_forms;
mod snapshot;
#[cfg(feature = "tracing")]
mod spans;
mod srv;
mod stm;
mod stress;
mod submit;
mod tls;
mod txn;
mod unreachable;
mod views;
mod watch;

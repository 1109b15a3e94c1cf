//! Tests of the program `etcd-service`: they run the binary, not functions of it.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so at once"
)]

#[path = "../support/mod.rs"]
mod support;

mod arguments;
mod doctor;
mod doctor_cluster;
mod doctor_tls;
mod endings;
mod health_server;
mod list;
mod lock;
mod lock_deleted;
mod lock_fenced;
mod manual;
mod overrides;
mod processes;
mod program;
mod proxies;
mod record;
mod register;
mod render;
mod run;
mod run_checks;
mod run_container;
mod run_orphans;
mod run_server;
mod serve;
mod serve_access;
mod serve_browser;
mod serve_limits;
mod serve_load;
mod serve_page;
mod serve_programs;
mod serve_tls;
mod terminal;
mod top;
mod watch;

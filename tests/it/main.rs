//! Everything that needs a real etcd, in one binary.

#[path = "../support/mod.rs"]
mod support;
mod watch;

//! What the files that `tests/models` checks use of `std` to run in parallel. The models replace this file, and
//! `atomic`, by stand-ins that run every order of the threads.

pub(crate) use std::sync::OnceLock;
pub(crate) use std::thread;
pub(crate) use std::time::Instant;

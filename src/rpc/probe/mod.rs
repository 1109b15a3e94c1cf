//! Probes of servers for health checks: TCP, HTTP/1.1, and gRPC's health service.
//!
//! A probe is a future on the runtime thread of a client. It costs a socket and no thread, so a server
//! that accepts and never answers delays no other probe.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod http_reply;
mod question;
mod run;
mod tcp;
mod url;

pub(crate) use question::{HttpExpectation, Probe, Question};

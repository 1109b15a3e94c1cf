//! A small HTTP/1.1 server: one request for each connection, and one thread for each connection.
//!
//! Event streams must arrive while they are written, connections need deadlines, and heads of every kind must be
//! answered and never end a thread with a panic. `httparse`, on which the library stands anyway, parses the heads.

mod connection;
#[cfg(test)]
mod fuzz;
mod listener;
mod request;
mod response;
mod transport;

pub(super) use connection::Connection;
pub(super) use listener::{Answer, Place, serve};
pub(super) use request::{BadRequest, Method, Request};
pub(super) use response::Response;
pub(super) use transport::Encryption;
#[cfg(feature = "__tls")]
pub(super) use transport::{NotEncrypted, TimedSocket, Transport};

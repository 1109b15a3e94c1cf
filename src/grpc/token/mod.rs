//! The token of a client: fetched once, sent by every connection, and renewed when a server
//! refuses it.
//!
//! The [`Connection`](super::Connection) adds the header to every request, so no call can omit it.
//! `state` decides when a token is fetched; `single_fetch` lets all requests wait for the one fetch;
//! `fetch` asks the server.

pub(super) mod bearer;
mod fetch;
pub(crate) mod identity;
mod single_fetch;
mod state;
pub(crate) mod tokens;

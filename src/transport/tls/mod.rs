//! TLS: what a user says about it, and connections that keep to it.
//!
//! `settings` is the description, `material` reads and judges certificates and keys, `connector` makes
//! connections from both, `stream` is one of them, `reason` puts rustls' errors into words.

mod connector;
mod material;
mod reason;
mod settings;
mod stream;

pub(crate) use connector::Connector;
pub use settings::Tls;
pub(super) use stream::Refusal;

//! TLS: what a user says about it, and connections that keep to it.
//!
//! `settings` is the description; `pem` finds the sections of its files, and `material` makes certificates
//! and keys of them. `connector` makes connections from both; `stream` is one of them. `verifier` looks
//! with `x509` for what explains a refusal, and `reason` puts the errors of rustls into words.

mod connector;
mod material;
mod pem;
mod reason;
mod settings;
mod stream;
mod verifier;
mod x509;

pub(crate) use connector::Connector;
pub use settings::Tls;
pub(super) use stream::Refusal;

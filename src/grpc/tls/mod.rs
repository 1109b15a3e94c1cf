//! TLS: its settings, and connections that follow them.
//!
//! `settings` has the settings of the user; `pem` finds the sections of a file, and `material`
//! converts them to certificates and keys. `connector` makes connections; `stream` is one
//! connection. `verifier` and `x509` find the cause of a rejected certificate, and `reason`
//! describes the errors of rustls.

mod connector;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod material;
mod pem;
mod reason;
mod settings;
mod stream;
mod verifier;
mod x509;

pub(crate) use connector::Connector;
pub use settings::Tls;
pub(super) use stream::TlsRefusal;

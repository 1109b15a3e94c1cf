//! The settings of a client as a plain value, from code, a file or the environment.

pub(super) mod env;
#[cfg(feature = "serde")]
mod serial;
pub(super) mod span;
mod values;

pub use values::{Config, SecureConfig};

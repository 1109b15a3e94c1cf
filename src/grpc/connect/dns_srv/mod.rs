//! Endpoints from DNS SRV records.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod lookup;
mod message;

pub use lookup::SrvLookup;

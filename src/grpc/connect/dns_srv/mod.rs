//! Endpoints from DNS SRV records.

mod lookup;
mod message;

pub use lookup::SrvLookup;

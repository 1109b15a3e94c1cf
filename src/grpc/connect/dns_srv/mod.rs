//! EndpointSet from DNS: the SRV records of a domain.

mod lookup;
mod message;

pub use lookup::SrvLookup;

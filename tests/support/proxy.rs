//! The proxy of the crate, under the names that the tests use.

pub use etcd_blocking::local::{Direction as Dir, Proxy};

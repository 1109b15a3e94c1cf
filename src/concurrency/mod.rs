//! Recipes over the public interface: what programs on one etcd agree on by keys they share.

pub(crate) mod nest;
mod stm;

pub use stm::{Committed, Isolation, Stm, Tx};

//! Copies of a key range that are kept up to date: in memory, and in another cluster.

pub(crate) mod cache;
pub(crate) mod copy;
pub(crate) mod mirror;

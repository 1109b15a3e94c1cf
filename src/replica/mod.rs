//! Replicas of key ranges that are kept up to date: in memory (mirror, cache) and in another cluster (copy).

pub(crate) mod cache;
pub(crate) mod copy;
pub(crate) mod mirror;

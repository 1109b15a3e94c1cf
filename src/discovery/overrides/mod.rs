//! What operators set for instances of services, in plain keys of etcd.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod operator_override;
pub(crate) mod override_feed;
pub(crate) mod override_source;

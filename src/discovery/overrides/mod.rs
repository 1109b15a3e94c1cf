//! What operators set for instances of services, in plain keys of etcd.

pub(crate) mod operator_override;
pub(crate) mod override_feed;
pub(crate) mod override_source;

//! Small types without knowledge of etcd: backoff, jitter, a clock, secrets, receiving handles.

pub(crate) mod backoff;
pub(crate) mod boot_time;
pub(crate) mod jitter;
pub(crate) mod receive;
pub(crate) mod secret;

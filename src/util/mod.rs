//! Small types without knowledge of etcd: atomics and threads, backoff, jitter, a clock, secrets, receiving handles.

pub(crate) mod atomic;
pub(crate) mod backoff;
pub(crate) mod boot_time;
pub(crate) mod jitter;
pub(crate) mod receive;
pub(crate) mod secret;
pub(crate) mod sync;

//! The services of etcd: requests, responses, and the tasks of leases and watches; probes of other servers.

pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod lock_service;
pub(crate) mod maintenance;
pub(crate) mod namespace;
pub(crate) mod probe;
pub(crate) mod request;
pub(crate) mod watch;

//! Connections to the members of a cluster: endpoints, addresses, dialling, keepalive.

pub(crate) mod address_record;
pub(crate) mod address_set;
pub(crate) mod connect_error;
pub(crate) mod connection;
pub(crate) mod connection_role;
pub(crate) mod dial;
pub(crate) mod dns_srv;
pub(crate) mod endpoint;
pub(crate) mod endpoint_set;
pub(crate) mod keepalive;
pub(crate) mod keepalive_task;
pub(crate) mod member_picker;
pub(crate) mod pool;
pub(crate) mod resolver;
pub(crate) mod signs_of_life;
pub(crate) mod single_flight;
pub(crate) mod store;
pub(crate) mod store_identity;
pub(crate) mod stream_slots;
pub(crate) mod tls_probe;

//! Registration: registrars, registrations, and the worker that keeps them in etcd.

pub(crate) mod batch;
pub(crate) mod batch_plan;
pub(crate) mod batch_size;
pub(crate) mod command;
pub(crate) mod contention_backoff;
pub(crate) mod entry;
pub(crate) mod key_phase;
pub(crate) mod key_queue;
pub(crate) mod key_step;
pub(crate) mod lease_check;
pub(crate) mod lease_validity;
pub(crate) mod leave_group;
pub(crate) mod on_conflict;
pub(crate) mod owned_key;
pub(crate) mod probe;
pub(crate) mod refusal;
pub(crate) mod registrar;
pub(crate) mod registrar_leases;
pub(crate) mod registrar_link;
pub(crate) mod registrar_task;
pub(crate) mod registration;
pub(crate) mod retired_lease;
pub(crate) mod sent_batch;
pub(crate) mod shared_lease;
pub(crate) mod size_check;
pub(crate) mod step_size;

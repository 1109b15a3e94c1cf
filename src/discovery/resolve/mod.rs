//! Discovery: views of services, their changes, and the choice of an instance.

pub(crate) mod balance;
pub(crate) mod balancer;
pub(crate) mod change;
pub(crate) mod change_backlog;
pub(crate) mod change_queue;
pub(crate) mod directory;
pub(crate) mod discovery;
mod instance_list;
mod pick_schedule;
pub(crate) mod removal_cause;
pub(crate) mod view;

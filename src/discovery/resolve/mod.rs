//! Discovery: views of services, and their changes.

pub(crate) mod change;
pub(crate) mod change_backlog;
pub(crate) mod change_queue;
pub(crate) mod directory;
pub(crate) mod discovery;
pub(crate) mod instance_list;
pub(crate) mod removal_cause;
pub(crate) mod view;

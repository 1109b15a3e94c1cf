//! Discovery: views of services, and their changes.

mod audit;
mod cache_file;
mod cache_plan;
mod cache_report;
mod cache_writer;
pub(crate) mod catalog;
mod catalog_link;
mod catalog_split;
mod catalog_task;
pub(crate) mod change;
pub(crate) mod change_backlog;
pub(crate) mod change_queue;
pub(crate) mod directory;
pub(crate) mod discovery;
pub(crate) mod freshness;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hold;
pub(crate) mod instance_list;
mod merge;
pub(crate) mod name_queue;
mod override_stage;
mod pick_edits;
mod probe_plan;
pub(crate) mod protection;
pub(crate) mod removal_cause;
mod service_list;
mod source;
mod tcp_prober;
pub(crate) mod view;
mod view_start;
mod view_state;
mod view_task;

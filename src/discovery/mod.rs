//! Registration and discovery: which programs serve what, and where.
//!
//! A program registers an [`Instance`] of a service under a lease that it keeps alive; others find it
//! under the service's name, and hear of every [`Change`]. A [`Codec`] says how an instance is
//! written into etcd; a [`Balance`] says which one gets the next call.
//!
//! What is decided is decided without I/O, threads and clocks: [`directory`] holds what a view
//! knows and turns events into changes, [`causes`] finds out why an instance is gone.

mod address;
mod balance;
mod batch;
mod batch_plan;
mod batch_size;
mod causes;
mod change;
mod change_backlog;
mod change_queue;
mod claim;
mod codec;
mod directory;
#[expect(
    clippy::module_inception,
    reason = "the type that the folder is named after"
)]
mod discovery;
mod dispute;
mod entry;
mod instance;
mod lease_check;
mod leases;
mod leave_group;
mod native;
mod outlook;
mod plain;
mod probe;
mod refusal;
mod registrar;
mod registrar_link;
mod registration;
mod roster;
mod size_check;
mod status;
mod tenure;
mod turns;
mod view;
pub(crate) mod worker;

pub use balance::Balance;
pub use change::{Cause, Change};
pub use codec::Codec;
pub use discovery::Discovery;
pub use instance::Instance;
pub use registrar::{OnConflict, Registrar, RegistrarBuilder};
pub use registration::{Loss, Registration, State};
pub use status::Status;
pub use view::ServiceView;

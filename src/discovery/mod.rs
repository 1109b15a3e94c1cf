//! Registration and discovery: which programs serve what, and where.
//!
//! A program registers an [`Instance`] of a service under a lease that it keeps alive; others find it
//! under the service's name, and hear of every [`Change`]. A [`Codec`] says how an instance is
//! written into etcd; a [`Balance`] says which one gets the next call.
//!
//! What is decided is decided without I/O, threads and clocks: [`directory`] holds what a view
//! knows and turns events into changes, [`causes`] finds out why an instance is gone.

mod address;
mod codec;
mod instance;
pub(crate) mod register;
pub(crate) mod resolve;
mod status;

pub use codec::Codec;
pub use instance::Instance;
pub use register::on_conflict::OnConflict;
pub use register::registrar::{Registrar, RegistrarBuilder};
pub use register::registration::{Loss, Registration, State};
pub use resolve::balance::Balance;
pub use resolve::change::{Cause, Change};
pub use resolve::discovery::Discovery;
pub use resolve::view::ServiceView;
pub use status::Status;

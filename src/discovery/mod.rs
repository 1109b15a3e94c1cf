//! Registration and discovery: which programs serve what, and where.
//!
//! A program registers an [`Instance`] of a service under a lease that it keeps alive. Other programs
//! find it by the name of the service, and receive every [`Change`]. A [codec](codec::Codec) defines how an
//! instance is written into etcd; a [`Balance`] defines which instance gets the next call.

mod address;
mod balance;
pub(crate) mod check;
pub(crate) mod codec;
mod instance;
mod leader;
pub(crate) mod overrides;
pub(crate) mod public;
pub(crate) mod register;
pub(crate) mod resolve;
mod status;

pub use balance::{Attempt, Balance, CallError, CallGuard, Ejection, Filter, RetryBudget};
pub use instance::Instance;
pub use overrides::operator_override::Override;
pub use register::on_conflict::OnConflict;
pub use register::registrar::{Registrar, RegistrarBuilder};
pub use register::registration::{Loss, Registration, State};
pub use resolve::catalog::ServiceCatalog;
pub use resolve::change::{Cause, Change};
pub use resolve::discovery::Discovery;
pub use resolve::freshness::Freshness;
pub use resolve::name_queue::CatalogChange;
pub use resolve::protection::Protection;
pub use resolve::view::ServiceView;
pub use status::Status;

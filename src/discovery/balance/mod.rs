//! The choice of the instance that gets the next call.

mod attempt;
#[allow(clippy::module_inception, reason = "the file of a type has its name")]
mod balance;
pub(crate) mod balancer;
mod call_guard;
mod call_window;
mod discovery_balance;
mod ejection;
pub(crate) mod filter;
mod outliers;
mod peak_ewma;
mod pick_schedule;
mod pool;
mod rendezvous;
mod retry_budget;
pub(crate) mod settings;
mod slots;
mod stable_hash;
mod subset;
mod tier;
mod view_calls;
mod weight_tree;
mod zone_share;

pub use attempt::{Attempt, CallError};
pub use balance::Balance;
pub use call_guard::CallGuard;
pub use ejection::Ejection;
pub use filter::Filter;
pub use retry_budget::RetryBudget;

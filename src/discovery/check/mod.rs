//! Health checks of registered instances: what is checked, when, and what follows.

#[allow(clippy::module_inception, reason = "the file of the type `Check`")]
pub(crate) mod check;
pub(crate) mod check_state;
pub(crate) mod check_task;
pub(crate) mod checks;
pub(crate) mod closure_thread;
pub(crate) mod consequence;
pub(crate) mod health;
pub(crate) mod heartbeat;
pub(crate) mod instance_health;
pub(crate) mod plan;
pub(crate) mod probe_schedule;
pub(crate) mod running_check;
pub(crate) mod silence;

pub use check::Check;
pub use check_state::CheckStatus;
pub use checks::Checks;
pub use consequence::Initial;
pub use health::{CheckHealth, Health};
pub use heartbeat::Heartbeat;

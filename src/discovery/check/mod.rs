//! Health checks of registered instances: what is checked, when, and what follows.

pub(crate) mod check_state;
pub(crate) mod consequence;
pub(crate) mod health;
pub(crate) mod instance_health;
pub(crate) mod probe_schedule;

pub use check_state::CheckStatus;
pub use consequence::Initial;
pub use health::{CheckHealth, Health};

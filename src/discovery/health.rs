//! Health checks of registered instances: what is checked, how often, and what follows.
//!
//! A [`Check`] says what is checked, and [`Checks`] say what follows from the results.

pub use super::check::{Check, CheckHealth, CheckStatus, Checks, Health, Heartbeat, Initial};

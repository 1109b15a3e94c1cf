//! The parts of a client that a set of watches uses.

use std::time::Duration;

use super::watch_registry::WatchRegistry;
use super::watch_request::Watch;
use crate::runtime::Bridge;

/// The client of a set of watches. The set owns it, which keeps the client alive.
pub(crate) trait WatchContext: Send + Sync + std::fmt::Debug {
    fn registry(&self) -> &WatchRegistry;
    fn bridge(&self) -> &Bridge;
    fn timeout(&self) -> Duration;
    /// Moves the watch into the client's namespace, if it has one.
    fn confine(&self, watch: Watch) -> Watch;
}

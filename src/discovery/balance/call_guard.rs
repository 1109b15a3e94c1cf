//! A call to an instance.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::pool::{CallEnd, Pool};
use super::slots::Position;
use crate::discovery::instance::Instance;

/// A call in flight to an instance, which the guard dereferences to.
///
/// The call is counted until the guard is dropped, or until [`succeeded`](CallGuard::succeeded) or
/// [`failed`](CallGuard::failed) says how it ended. Dropping the guard alone says neither: it does not count for
/// the [`Ejection`](crate::balance::Ejection), and its latency is not measured. A guard may be moved to another thread,
/// and may outlive its view.
///
/// ```no_run
/// use std::net::TcpStream;
/// use etcd_blocking::{Balance, Client, Discovery};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect("http://127.0.0.1:2379")?;
/// let api = Discovery::new(&client).balance(Balance::LeastInFlight).service("api")?;
/// if let Some(call) = api.acquire() {
///     match TcpStream::connect(&call.addr) {
///         Ok(_) => call.succeeded(),
///         Err(_) => call.failed(),
///     }
/// }
/// # Ok(()) }
/// ```
#[must_use = "the call ends when the guard is dropped"]
pub struct CallGuard {
    pool: Arc<Mutex<Pool>>,
    position: Position,
    instance: Arc<Instance>,
    began: Instant,
    has_ended: bool,
}

impl CallGuard {
    pub(super) fn new(
        pool: Arc<Mutex<Pool>>,
        position: Position,
        instance: Arc<Instance>,
        began: Instant,
    ) -> Self {
        CallGuard {
            pool,
            position,
            instance,
            began,
            has_ended: false,
        }
    }

    /// Returns the instance.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Ends the call, to which the instance gave a proper answer. That can be the answer that a request is invalid:
    /// only failures of the instance count as failures.
    pub fn succeeded(mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        self.end(CallEnd::Succeeded(took), now);
    }

    /// Ends the call, which failed because of the instance: it refused the connection, gave no answer in time, or
    /// reported an error of its own.
    pub fn failed(mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        self.end(CallEnd::Failed(took), now);
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    fn end(&mut self, end: CallEnd, now: Instant) {
        self.has_ended = true;
        self.pool.lock().ended(self.position, end, now);
    }
}

impl Deref for CallGuard {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(CallEnd::Dropped, self.began);
        }
    }
}

impl fmt::Debug for CallGuard {
    /// Shows the instance, without the thousands of others of the view.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallGuard").field(&self.instance).finish()
    }
}

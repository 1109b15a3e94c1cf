//! The methods of a view that choose an instance.

use std::sync::Arc;

use super::attempt::{Attempt, CallError};
use super::balancer::Balancer;
use super::call_guard::CallGuard;
use super::retry_budget::MAX_ATTEMPTS;
use super::slots::Position;
use super::stable_hash::stable_hash;
use crate::discovery::instance::Instance;
use crate::discovery::resolve::view::ServiceView;

/// The choice of an instance. None of these methods blocks or sends a request, and no lock is held while a
/// closure runs.
impl ServiceView {
    /// Returns the instance for the next call, or `None` if none can be picked.
    ///
    /// The [`Balance`](crate::Balance) of the [`Discovery`](crate::Discovery) decides. Only instances
    /// that are [`Up`](crate::Status::Up) with a weight above 0 are picked, unless a
    /// [`Filter`](crate::balance::Filter) says otherwise. It does not block, and sends no request.
    pub fn pick(&self) -> Option<Arc<Instance>> {
        self.balancer().pick(None)
    }

    /// Returns the instance for a call with a key, or `None` if none can be picked.
    ///
    /// With [`Balance::Rendezvous`](crate::Balance::Rendezvous), calls with the same key go to the same instance.
    /// Every other balance ignores the key.
    pub fn pick_for(&self, key: impl AsRef<[u8]>) -> Option<Arc<Instance>> {
        self.balancer().pick(Some(key.as_ref()))
    }

    /// Begins a call: returns the instance for it in a guard, or `None` if none can be picked.
    ///
    /// The guard counts the call until it ends and takes its outcome, which
    /// [`Balance::LeastInFlight`](crate::Balance::LeastInFlight),
    /// [`Balance::PeakEwma`](crate::Balance::PeakEwma) and the [`Ejection`](crate::balance::Ejection) of failing instances
    /// depend on.
    pub fn acquire(&self) -> Option<CallGuard> {
        self.balancer().acquire(None)
    }

    /// Begins a call with a key; see [`pick_for`](ServiceView::pick_for).
    ///
    /// With [`Balance::Rendezvous`](crate::Balance::Rendezvous) an instance has at most 1.25 times its share of all
    /// calls in flight; further calls with its keys go to other instances.
    pub fn acquire_for(&self, key: impl AsRef<[u8]>) -> Option<CallGuard> {
        self.balancer().acquire(Some(key.as_ref()))
    }

    /// Runs a closure with an instance, and again with another one when the closure permits it.
    ///
    /// After [`Attempt::Retry`] another instance is tried, within the [`RetryBudget`](crate::balance::RetryBudget) of the
    /// view. The same instance is not tried twice while there is another one. The attempts follow each
    /// other without a wait. Each attempt is a call as of [`acquire`](ServiceView::acquire); if the closure panics, its call has no
    /// outcome.
    ///
    /// ```no_run
    /// use std::net::TcpStream;
    /// use etcd_blocking::balance::Attempt;
    /// use etcd_blocking::{Client, Discovery};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect("http://127.0.0.1:2379")?;
    /// let api = Discovery::new(&client).service("api")?;
    /// let stream = api.call(|instance| match TcpStream::connect(&instance.addr) {
    ///     Ok(stream) => Attempt::Succeeded(stream),
    ///     // Nothing was sent, so another instance may be tried.
    ///     Err(error) => Attempt::Retry(error),
    /// })?;
    /// # drop(stream);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::NoInstance`] when none can be picked; [`CallError::Failed`] with the failure of the last
    /// attempt.
    pub fn call<T, E>(
        &self,
        attempt: impl FnMut(&Instance) -> Attempt<T, E>,
    ) -> Result<T, CallError<E>> {
        call(self.balancer(), None, attempt)
    }

    /// Runs a closure with the instance for a key; see [`call`](ServiceView::call) and
    /// [`acquire_for`](ServiceView::acquire_for).
    ///
    /// # Errors
    ///
    /// As [`call`](ServiceView::call).
    pub fn call_for<T, E>(
        &self,
        key: impl AsRef<[u8]>,
        attempt: impl FnMut(&Instance) -> Attempt<T, E>,
    ) -> Result<T, CallError<E>> {
        call(self.balancer(), Some(stable_hash(key.as_ref())), attempt)
    }

    /// Returns the instances that are [ejected](crate::balance::Ejection) now: they get no calls, or one at a time.
    pub fn ejected(&self) -> Vec<Arc<Instance>> {
        self.balancer().ejected()
    }
}

/// Attempts a call until it succeeds, must not be attempted again, or its budget is used up.
pub(super) fn call<T, E>(
    balancer: &Balancer,
    key: Option<u64>,
    mut attempt: impl FnMut(&Instance) -> Attempt<T, E>,
) -> Result<T, CallError<E>> {
    let mut tried = [Position::default(); MAX_ATTEMPTS];
    let limit = (balancer.attempts() as usize).clamp(1, MAX_ATTEMPTS);
    let mut call = balancer.first_attempt(key).ok_or(CallError::NoInstance)?;
    let mut attempts = 0;
    loop {
        let failure = match attempt(&call) {
            Attempt::Succeeded(answer) => {
                call.succeeded();
                return Ok(answer);
            }
            Attempt::Failed(failure) => {
                call.failed();
                return Err(CallError::Failed(failure));
            }
            Attempt::Retry(failure) => failure,
        };
        if let Some(last) = tried.get_mut(attempts) {
            *last = call.position();
        }
        call.failed();
        attempts += 1;
        let next = match tried.get(..attempts) {
            Some(tried) if attempts < limit => balancer.next_attempt(key, tried),
            _ => None,
        };
        match next {
            Some(next) => call = next,
            None => return Err(CallError::Failed(failure)),
        }
    }
}

#[cfg(test)]
mod tests;

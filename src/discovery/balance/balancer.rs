//! Picks the instance of a view that gets the next call, for any number of threads.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::call_guard::CallGuard;
use super::filter::Filter;
use super::pool::{Pool, Request};
use super::settings::BalanceSettings;
use super::slots::Position;
use super::stable_hash::stable_hash;
use crate::discovery::instance::Instance;
use crate::discovery::resolve::instance_list::InstanceEdit;
use crate::util::jitter;

/// The balancer of one view, shared by all threads that pick from it and by the guards of its calls.
#[derive(Debug)]
pub(crate) struct Balancer {
    pool: Arc<Mutex<Pool>>,
    attempts: u32,
    filter: Arc<Filter>,
}

impl Balancer {
    pub(crate) fn new(settings: BalanceSettings) -> Self {
        let attempts = settings.retry_budget.attempts;
        let filter = Arc::clone(&settings.filter);
        let pool = Arc::new(Mutex::new(Pool::new(settings, jitter::number())));
        Balancer {
            pool,
            attempts,
            filter,
        }
    }

    /// The filter that an instance must pass to be picked.
    pub(crate) fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    pub(crate) fn update(&self, edits: &[InstanceEdit]) {
        // The lock is released in between: a list of 100,000 instances must not delay a pick.
        for edits in edits.chunks(64) {
            let mut pool = self.pool.lock();
            for (key, instance) in edits {
                pool.update(key, instance.as_ref());
            }
            pool.updated(Instant::now());
        }
    }

    /// The number of instances that can be picked.
    pub(crate) fn pickable(&self) -> usize {
        self.pool.lock().len()
    }

    /// The next instance, or `None` when none accepts calls.
    pub(crate) fn pick(&self, key: Option<&[u8]>) -> Option<Arc<Instance>> {
        let key = key.map(stable_hash);
        let mut pool = self.pool.lock();
        let now = pool.needs_clock().then(Instant::now);
        pool.pick(Request {
            key,
            now,
            ..Request::default()
        })
    }

    /// The next instance, with a call in flight.
    pub(super) fn acquire(&self, key: Option<&[u8]>) -> Option<CallGuard> {
        self.begin(key.map(stable_hash), &[], |_, _| true)
    }

    /// The instance for the first attempt of a call, which earns its part of a retry.
    pub(super) fn first_attempt(&self, key: Option<u64>) -> Option<CallGuard> {
        self.begin(key, &[], |pool, _| {
            pool.retries().call();
            true
        })
    }

    /// The instance for a further attempt, or `None` when the budget is used up.
    pub(super) fn next_attempt(&self, key: Option<u64>, tried: &[Position]) -> Option<CallGuard> {
        self.begin(key, tried, |pool, now| pool.retries().retry(now))
    }

    fn begin(
        &self,
        key: Option<u64>,
        tried: &[Position],
        may_begin: impl FnOnce(&mut Pool, Instant) -> bool,
    ) -> Option<CallGuard> {
        let now = Instant::now();
        let mut pool = self.pool.lock();
        if !may_begin(&mut pool, now) {
            return None;
        }
        let (position, instance) = pool.acquire(Request {
            key,
            tried,
            now: Some(now),
            is_counted: true,
        })?;
        drop(pool);
        Some(CallGuard::new(
            Arc::clone(&self.pool),
            position,
            instance,
            now,
        ))
    }

    /// The most attempts of one call.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The instances that are ejected.
    pub(super) fn ejected(&self) -> Vec<Arc<Instance>> {
        self.pool.lock().ejected()
    }
}

#[cfg(test)]
mod tests;

//! Records the events of a client: counters for [`Client::metrics`](crate::Client::metrics), and
//! events for `tracing` with the feature of that name.
//!
//! Counting is always enabled and has to be cheap: a call costs three relaxed additions and two
//! reads of the clock. No value, password or token is recorded; keys and endpoints are, as in
//! errors.

#![cfg_attr(
    not(feature = "tracing"),
    allow(unused_variables, reason = "used only by tracing events")
)]

mod call;
mod latencies;
mod metrics;
mod subject;
mod verbs;

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::Error;
use crate::types::LeaseId;
use crate::util::atomic::AtomicU64;
use crate::util::boot_time::BootTime;
pub(crate) use call::{ObservedCall, Underway};
pub use latencies::Latencies;
pub use metrics::{
    CallMetrics, EndpointMetrics, LeaseMetrics, Metrics, TokenMetrics, ViewMetrics, WatchMetrics,
};
pub(crate) use subject::Subject;
use verbs::Verbs;

/// Emits an event to `tracing`; expands to nothing without the feature.
macro_rules! event {
    ($level:ident, $target:literal, $text:literal $(, $($field:tt)+)?) => {
        #[cfg(feature = "tracing")]
        tracing::$level!(target: concat!("etcd_blocking::", $target), $($($field)+,)? $text)
    };
}

/// A queue whose length is reported in the metrics.
pub(crate) trait ReportedQueue: Send + Sync {
    /// The number of items and their bytes, or `None` when the queue has ended.
    fn waiting(&self) -> Option<(usize, usize)>;
}

/// Receives all events of a client.
pub(crate) struct Telemetry {
    verbs: Verbs,
    retries: AtomicU64,
    /// A lock is cheap enough, because connections are rare; the set of endpoints may change.
    endpoints: Mutex<Vec<EndpointMetrics>>,
    tokens: [AtomicU64; 2],
    pub(crate) watches: WatchCounters,
    pub(crate) leases: LeaseCounters,
    pub(crate) views: ViewCounters,
    queues: Mutex<Vec<Weak<dyn ReportedQueue>>>,
}

/// The counters of the watches, updated by their task.
#[derive(Debug, Default)]
pub(crate) struct WatchCounters {
    open: AtomicU64,
    paused: AtomicU64,
    streams: AtomicU64,
    resumes: AtomicU64,
    pauses: AtomicU64,
    delivered: AtomicU64,
}

/// The counters of the views, updated by the worker.
#[derive(Debug, Default)]
pub(crate) struct ViewCounters {
    audits: AtomicU64,
    repairs: AtomicU64,
    mass_expiries: AtomicU64,
    cache_failures: AtomicU64,
}

/// The counters of the leases, updated by their task.
#[derive(Debug, Default)]
pub(crate) struct LeaseCounters {
    kept: AtomicU64,
    /// Nanoseconds since boot; 0 when there is no lease.
    first_end: AtomicU64,
    renewals: AtomicU64,
    lost: AtomicU64,
    streams: AtomicU64,
}

/// Counts an open connection until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    telemetry: Arc<Telemetry>,
    endpoint: Arc<str>,
}

impl Telemetry {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Telemetry {
            verbs: Verbs::new(),
            retries: AtomicU64::new(0),
            endpoints: Mutex::default(),
            tokens: [const { AtomicU64::new(0) }; 2],
            watches: WatchCounters::default(),
            leases: LeaseCounters::default(),
            views: ViewCounters::default(),
            queues: Mutex::default(),
        })
    }

    /// A snapshot of all metrics.
    pub(crate) fn snapshot(&self, now: BootTime) -> Metrics {
        let [refreshes, failures] = &self.tokens;
        let (queued, queued_bytes) = self.queued();
        Metrics {
            calls: self.verbs.snapshot(),
            retries: self.retries.load(Relaxed),
            endpoints: self.endpoints.lock().clone(),
            tokens: TokenMetrics {
                refreshes: refreshes.load(Relaxed),
                failures: failures.load(Relaxed),
            },
            watches: self.watches.snapshot(queued, queued_bytes),
            leases: self.leases.snapshot(now),
            views: self.views.snapshot(),
        }
    }

    /// Records a received piece of a range stream. An error of such a stream is not counted as a
    /// failed call, because a request follows that is counted.
    pub(crate) fn piece(&self, verb: &'static str, took: Duration) {
        if let Some(verb) = self.verbs.at(self.verbs.slot(verb)) {
            verb.begin();
            verb.end(took, None);
        }
    }

    /// Records that an attempt failed and another one follows.
    pub(crate) fn retrying(&self, attempt: u32, endpoint: Option<&str>, why: impl fmt::Display) {
        self.retries.fetch_add(1, Relaxed);
        event!(debug, "call", "retry", attempt, endpoint, reason = %why);
    }

    /// Records a new connection, made in `took`.
    pub(crate) fn connected(
        self: &Arc<Self>,
        endpoint: &Arc<str>,
        took: Duration,
    ) -> OpenConnection {
        self.at(endpoint, |at| {
            // Also under the lock: `open` never exceeds `opened` in a snapshot.
            at.opened += 1;
            at.open += 1;
        });
        event!(info, "connection", "connected", %endpoint, elapsed = ?took);
        OpenConnection {
            telemetry: Arc::clone(self),
            endpoint: Arc::clone(endpoint),
        }
    }

    /// Records a failed connection attempt.
    pub(crate) fn dial_failed(&self, endpoint: &Arc<str>, why: impl fmt::Display) {
        self.at(endpoint, |at| at.failed_dials += 1);
        event!(warn, "connection", "dial failed", %endpoint, reason = %why);
    }

    /// Records that the client stops using a member for a while.
    pub(crate) fn ejected(&self, endpoint: &Arc<str>, why: impl fmt::Display) {
        self.at(endpoint, |at| at.ejections += 1);
        event!(warn, "connection", "ejected", %endpoint, reason = %why);
    }

    /// Records a fetched token, or a failed attempt.
    pub(crate) fn token_refreshed(&self, failure: Option<&Error>) {
        let [refreshes, failures] = &self.tokens;
        match failure {
            None => {
                refreshes.fetch_add(1, Relaxed);
                event!(info, "token", "refreshed");
            }
            Some(error) => {
                failures.fetch_add(1, Relaxed);
                event!(warn, "token", "refresh failed", %error);
            }
        }
    }

    /// Includes `queue` in the metrics for as long as it exists.
    pub(crate) fn watch_queue(&self, queue: Weak<dyn ReportedQueue>) {
        let mut queues = self.queues.lock();
        // Pruned only when the vector would grow, so the cost for each entry is constant on
        // average.
        if queues.len() == queues.capacity() {
            queues.retain(|queue| queue.strong_count() > 0);
        }
        queues.push(queue);
    }

    fn queued(&self) -> (u64, u64) {
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let queues = self.queues.lock();
        let waiting = queues.iter().filter_map(|queue| queue.upgrade()?.waiting());
        waiting.fold((0, 0), |(items, bytes), one| {
            (items + wide(one.0), bytes + wide(one.1))
        })
    }

    fn at(&self, endpoint: &Arc<str>, change: impl FnOnce(&mut EndpointMetrics)) {
        let mut endpoints = self.endpoints.lock();
        // A linear search: a client has few endpoints, and this runs for connections, not for
        // calls.
        if let Some(known) = endpoints.iter_mut().find(|at| at.endpoint == *endpoint) {
            return change(known);
        }
        let mut new = EndpointMetrics {
            endpoint: Arc::clone(endpoint),
            open: 0,
            opened: 0,
            failed_dials: 0,
            ejections: 0,
        };
        change(&mut new);
        endpoints.push(new);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let endpoint = &self.endpoint;
        self.telemetry
            .at(endpoint, |at| at.open = at.open.saturating_sub(1));
        event!(debug, "connection", "closed", %endpoint);
    }
}

impl WatchCounters {
    /// Sets the number of open watches and of paused ones.
    pub(crate) fn are(&self, open: usize, paused: usize) {
        store(&self.open, open);
        store(&self.paused, paused);
    }

    pub(crate) fn stream_opened(&self) {
        self.streams.fetch_add(1, Relaxed);
        event!(debug, "watch", "stream opened");
    }

    pub(crate) fn stream_lost(&self, why: impl fmt::Display) {
        event!(info, "watch", "stream lost", reason = %why);
    }

    pub(crate) fn created(&self, about: &Subject) {
        event!(debug, "watch", "created", keys = %about);
    }

    pub(crate) fn delivered(&self) {
        self.delivered.fetch_add(1, Relaxed);
    }

    pub(crate) fn resumed(&self, about: &Subject) {
        self.resumes.fetch_add(1, Relaxed);
        event!(info, "watch", "resumed", keys = %about);
    }

    pub(crate) fn paused(&self, about: &Subject) {
        self.pauses.fetch_add(1, Relaxed);
        event!(info, "watch", "paused: its reader is slow", keys = %about);
    }

    pub(crate) fn caught_up(&self, about: &Subject) {
        event!(debug, "watch", "its reader has caught up", keys = %about);
    }

    pub(crate) fn ended(&self, about: &Subject, error: &Error) {
        event!(warn, "watch", "ended", keys = %about, %error);
    }

    fn snapshot(&self, queued: u64, queued_bytes: u64) -> WatchMetrics {
        WatchMetrics {
            open: self.open.load(Relaxed),
            paused: self.paused.load(Relaxed),
            streams: self.streams.load(Relaxed),
            resumes: self.resumes.load(Relaxed),
            pauses: self.pauses.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            queued,
            queued_bytes,
        }
    }
}

impl ViewCounters {
    /// Records an audit that compared a view with etcd.
    pub(crate) fn audited(&self) {
        self.audits.fetch_add(1, Relaxed);
    }

    /// Records that an audit found a difference.
    pub(crate) fn repaired(&self, about: &dyn fmt::Display) {
        self.repairs.fetch_add(1, Relaxed);
        event!(warn, "view", "an audit found a difference to etcd, and the view lists again", keys = %about);
    }

    /// Records that many instances of a service expired at once.
    pub(crate) fn mass_expiry(&self, service: &str, suspects: usize) {
        self.mass_expiries.fetch_add(1, Relaxed);
        event!(
            warn,
            "view",
            "many instances expired at once",
            service,
            suspects
        );
    }

    /// Records that a cache file was refused.
    pub(crate) fn cache_refused(&self, why: &str) {
        self.cache_failures.fetch_add(1, Relaxed);
        event!(warn, "view", "a cache file was refused", reason = why);
    }

    /// Records that a cache file was not written. Only the first failure of a series is an event.
    pub(crate) fn cache_not_written(
        &self,
        path: &std::path::Path,
        error: &std::io::Error,
        is_first: bool,
    ) {
        self.cache_failures.fetch_add(1, Relaxed);
        if is_first {
            event!(warn, "view", "a cache file was not written", path = %path.display(), %error);
        }
    }

    fn snapshot(&self) -> ViewMetrics {
        ViewMetrics {
            audits: self.audits.load(Relaxed),
            repairs: self.repairs.load(Relaxed),
            mass_expiries: self.mass_expiries.load(Relaxed),
            cache_failures: self.cache_failures.load(Relaxed),
        }
    }
}

impl LeaseCounters {
    /// Sets the number of kept leases, and when the first of them expires.
    pub(crate) fn are(&self, kept: usize, first_end: Option<BootTime>) {
        // 0 means that no lease is kept alive.
        let nanos = first_end.map_or(0, |end| end.since(BootTime::default()).as_nanos());
        self.first_end
            .store(u64::try_from(nanos).unwrap_or(u64::MAX), Relaxed);
        store(&self.kept, kept);
    }

    pub(crate) fn stream_opened(&self) {
        self.streams.fetch_add(1, Relaxed);
        event!(debug, "lease", "stream opened");
    }

    pub(crate) fn stream_lost(&self, why: impl fmt::Display) {
        event!(info, "lease", "stream lost", reason = %why);
    }

    pub(crate) fn renewed(&self, lease: LeaseId, ttl: Duration) {
        self.renewals.fetch_add(1, Relaxed);
        event!(trace, "lease", "renewed", %lease, ?ttl);
    }

    pub(crate) fn lost(&self, lease: LeaseId, error: &Error) {
        self.lost.fetch_add(1, Relaxed);
        event!(warn, "lease", "lost", %lease, %error);
    }

    fn snapshot(&self, now: BootTime) -> LeaseMetrics {
        let end = Some(self.first_end.load(Relaxed)).filter(|nanos| *nanos > 0);
        let end = end.map(|nanos| BootTime::from_boot(Duration::from_nanos(nanos)));
        LeaseMetrics {
            kept: self.kept.load(Relaxed),
            smallest_slack: end.map(|end| end.since(now)),
            renewals: self.renewals.load(Relaxed),
            lost: self.lost.load(Relaxed),
            streams: self.streams.load(Relaxed),
        }
    }
}

fn store(gauge: &AtomicU64, now: usize) {
    gauge.store(u64::try_from(now).unwrap_or(u64::MAX), Relaxed);
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}
